// SPDX-License-Identifier: Apache-2.0
// Safetensors: named arrays in one file. 8 bytes header length (little-endian), a JSON header, then the data:
//   | u64 n | {"name": {"dtype": "BF16", "shape": [256, 704], "data_offsets": [begin, end]}, ...} (n bytes) | data |
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/kv_layout.h"
#include "kernels/result.h"

namespace kvasir::model {

inline constexpr uint64_t kSafetensorsFileBytesMax = uint64_t{1} << 30;
inline constexpr uint64_t kSafetensorsHeaderBytesMax = uint64_t{1} << 24;

/// A checked file in memory. Immutable; any thread.
class Safetensors {
 public:
  /// Reads a whole file. kInvalidArgument: not there; kResourceExhausted: larger than the limit; kDataLoss as in Parse.
  static Result<Safetensors> Read(const std::filesystem::path& path);
  /// Takes the bytes of a file. kDataLoss names the tensor and the field that is wrong. Nothing is allocated for a
  /// length that the bytes do not back.
  static Result<Safetensors> Parse(std::vector<std::byte> bytes);

  bool Has(std::string_view name) const { return tensors_.find(name) != tensors_.end(); }
  /// The tensor as fp32 (from F32, F16 or BF16). kInvalidArgument: no such tensor, or another shape.
  Result<std::vector<float>> Floats(std::string_view name, std::span<const uint64_t> shape) const;
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  struct Tensor {
    ElementType type = ElementType::kFloat32;
    std::vector<uint64_t> shape;
    uint64_t begin = 0;  ///< in bytes_
    uint64_t elements = 0;
  };
  Result<bool> ReadHeader();
  std::vector<std::byte> bytes_;
  std::map<std::string, Tensor, std::less<>> tensors_;
};

}  // namespace kvasir::model
