#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Compiles everything in kernels/cuda for sm_90a. A missing toolkit is a failure, not a skip.
#   cuda_compiles.sh SOURCE_DIR WORK_DIR
set -eu
source=${1:?} work=${2:?}
root=$("$source/kernels/cuda_toolkit.sh" "${KVASIR_CUDA_CACHE:-$work/cuda-toolkit}")
mkdir -p "$work/objects"
echo "toolkit: $("$root/bin/nvcc" --version | grep release)"
for file in "$source"/kernels/cuda/*.cu; do
  echo "nvcc $(basename "$file")"
  "$root/bin/nvcc" -std=c++20 -arch=sm_90a --fmad=false --expt-relaxed-constexpr --extended-lambda -Xcompiler -Wall,-Wextra,-Werror \
    -I"$source" -c "$file" -o "$work/objects/$(basename "$file").o"
done
for file in "$source"/kernels/cuda/*.cc; do
  echo "c++ $(basename "$file")"
  "${CXX:-c++}" -std=c++20 -O1 -Wall -Wextra -Werror -I"$source" -isystem "$root/include" -c "$file" \
    -o "$work/objects/$(basename "$file").o"
done
