// SPDX-License-Identifier: Apache-2.0
// Safetensors: every length is checked against the bytes at hand before it is used.
#include "tests/model/safetensors.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "kernels/number_formats.h"

namespace kvasir::model {
namespace {

using nlohmann::json;

Error Damaged(const std::string& what) { return {ErrorCode::kDataLoss, "safetensors: " + what}; }

std::string ShapeText(std::span<const uint64_t> shape) {
  std::string text = "[";
  for (const uint64_t n : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(n);
  return text + "]";
}

/// Appends a list of at most 8 unsigned numbers; false when it is anything else.
bool ReadNumbers(const json& from, std::vector<uint64_t>& to) {
  if (!from.is_array() || from.size() > 8) return false;
  for (const json& n : from) {
    if (!n.is_number_unsigned()) return false;
    to.push_back(n.get<uint64_t>());
  }
  return true;
}

/// False when the product does not fit below `limit`.
bool Elements(std::span<const uint64_t> shape, uint64_t limit, uint64_t& elements) {
  elements = 1;
  for (const uint64_t n : shape) {
    if (n != 0 && elements > limit / n) return false;
    elements *= n;
  }
  return true;
}

bool ReadType(const json& from, ElementType& type) {
  for (const auto& [name, value] :
       {std::pair{"F32", ElementType::kFloat32}, {"F16", ElementType::kFloat16}, {"BF16", ElementType::kBfloat16}}) {
    if (from != name) continue;
    type = value;
    return true;
  }
  return false;
}

}  // namespace

Result<Safetensors> Safetensors::Read(const std::filesystem::path& path) {
  std::error_code trouble;
  const uint64_t bytes = std::filesystem::file_size(path, trouble);
  if (trouble) return Error{ErrorCode::kInvalidArgument, path.string() + ": " + trouble.message()};
  if (bytes > kSafetensorsFileBytesMax) {
    return Error{ErrorCode::kResourceExhausted, path.string() + ": " + std::to_string(bytes) + " bytes; the limit is " +
                                                    std::to_string(kSafetensorsFileBytesMax)};
  }
  std::vector<std::byte> content(bytes);
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(content.data()), static_cast<std::streamsize>(bytes));
  if (!file) return Error{ErrorCode::kDataLoss, path.string() + ": could not be read to its end"};
  return Parse(std::move(content));
}

Result<Safetensors> Safetensors::Parse(std::vector<std::byte> bytes) {
  Safetensors parsed;
  parsed.bytes_ = std::move(bytes);
  const Result<bool> read = parsed.ReadHeader();
  if (!read.ok()) return read.error();
  return parsed;
}

Result<bool> Safetensors::ReadHeader() {
  uint64_t header_bytes = 0;
  if (bytes_.size() < sizeof header_bytes) return Damaged("shorter than its length field");
  std::memcpy(&header_bytes, bytes_.data(), sizeof header_bytes);
  if (header_bytes > kSafetensorsHeaderBytesMax || header_bytes > bytes_.size() - sizeof header_bytes) {
    return Damaged("header of " + std::to_string(header_bytes) + " bytes does not fit");
  }
  const char* text = reinterpret_cast<const char*>(bytes_.data()) + sizeof header_bytes;
  const json header = json::parse(text, text + header_bytes, nullptr, /*allow_exceptions=*/false);
  if (!header.is_object()) return Damaged("the header is not a JSON object");

  const uint64_t data_begin = sizeof header_bytes + header_bytes, data_bytes = bytes_.size() - data_begin;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    Tensor tensor;
    std::vector<uint64_t> offsets;
    if (!entry.is_object() || !entry.contains("dtype") || !entry.contains("shape") || !entry.contains("data_offsets")) {
      return Damaged(name + ": dtype, shape or data_offsets is missing");
    }
    if (!ReadType(entry["dtype"], tensor.type)) return Damaged(name + ": dtype is none of F32, F16, BF16");
    if (!ReadNumbers(entry["shape"], tensor.shape)) return Damaged(name + ": shape is not a list of up to 8 numbers");
    if (!ReadNumbers(entry["data_offsets"], offsets) || offsets.size() != 2 || offsets[0] > offsets[1] ||
        offsets[1] > data_bytes) {
      return Damaged(name + ": data_offsets lie outside the file");
    }
    if (!Elements(tensor.shape, data_bytes, tensor.elements) ||
        tensor.elements * ElementBytes(tensor.type) != offsets[1] - offsets[0]) {
      return Damaged(name + ": shape " + ShapeText(tensor.shape) + " and data_offsets disagree");
    }
    tensor.begin = data_begin + offsets[0];
    tensors_.emplace(name, std::move(tensor));
  }
  return true;
}

Result<std::vector<float>> Safetensors::Floats(std::string_view name, std::span<const uint64_t> shape) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) return Error{ErrorCode::kInvalidArgument, "no tensor " + std::string(name)};
  const Tensor& tensor = found->second;
  if (!std::equal(shape.begin(), shape.end(), tensor.shape.begin(), tensor.shape.end())) {
    return Error{ErrorCode::kInvalidArgument, std::string(name) + " has shape " + ShapeText(tensor.shape) +
                                                  ", config.json wants " + ShapeText(shape)};
  }
  std::vector<float> values(tensor.elements);
  const uint8_t* from = reinterpret_cast<const uint8_t*>(bytes_.data()) + tensor.begin;
  for (float& value : values) {
    value = LoadElement(tensor.type, from);
    from += ElementBytes(tensor.type);
  }
  return values;
}

}  // namespace kvasir::model
