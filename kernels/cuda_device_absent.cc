// SPDX-License-Identifier: Apache-2.0
// MakeCudaDevice in a build without CUDA.
#include "kernels/device.h"

namespace kvasir {

Result<std::unique_ptr<Device>> MakeCudaDevice(int) {
  return Error{ErrorCode::kUnimplemented,
               "this build has no CUDA device; configure with -DKVASIR_CUDA=ON where nvcc is"};
}

}  // namespace kvasir
