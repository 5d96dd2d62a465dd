// SPDX-License-Identifier: Apache-2.0
// Goal: a damaged weights file is refused with the field named, never a crash or a large allocation.
// Method: build small files, damage each field, cut at every length, flip bytes at random.
#include "tests/model/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/support/seed.h"

namespace kvasir::model {
namespace {

using nlohmann::json;

std::vector<std::byte> File(const std::string& header, size_t data_bytes, uint64_t stated_header_bytes) {
  std::vector<std::byte> bytes(8 + header.size() + data_bytes, std::byte{0});
  std::memcpy(bytes.data(), &stated_header_bytes, 8);
  std::memcpy(bytes.data() + 8, header.data(), header.size());
  return bytes;
}
std::vector<std::byte> File(const json& header, size_t data_bytes) {
  const std::string text = header.dump();
  return File(text, data_bytes, text.size());
}

json GoodHeader() {
  return {{"__metadata__", {{"format", "pt"}}},
          {"a", {{"dtype", "F32"}, {"shape", {2, 3}}, {"data_offsets", {0, 24}}}},
          {"b", {{"dtype", "BF16"}, {"shape", {4}}, {"data_offsets", {24, 32}}}},
          {"c", {{"dtype", "F16"}, {"shape", {1}}, {"data_offsets", {32, 34}}}}};
}

std::string TroubleOf(std::vector<std::byte> bytes) {
  const Result<Safetensors> parsed = Safetensors::Parse(std::move(bytes));
  if (parsed.ok()) return "accepted";
  EXPECT_EQ(parsed.error().code, ErrorCode::kDataLoss);
  return parsed.error().message;
}

TEST(SafetensorsTest, ReadsAllThreeFormats) {
  std::vector<std::byte> bytes = File(GoodHeader(), 34);
  const float one = 1.5f;
  const uint16_t bf16 = 0xC040, f16 = 0x3800;  // -3, 0.5
  std::memcpy(bytes.data() + bytes.size() - 34 + 20, &one, 4);
  std::memcpy(bytes.data() + bytes.size() - 10, &bf16, 2);
  std::memcpy(bytes.data() + bytes.size() - 2, &f16, 2);
  const Result<Safetensors> parsed = Safetensors::Parse(std::move(bytes));
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  EXPECT_EQ(*parsed->Floats("a", std::vector<uint64_t>{2, 3}), (std::vector<float>{0, 0, 0, 0, 0, 1.5f}));
  EXPECT_EQ(*parsed->Floats("b", std::vector<uint64_t>{4}), (std::vector<float>{-3, 0, 0, 0}));
  EXPECT_EQ(*parsed->Floats("c", std::vector<uint64_t>{1}), (std::vector<float>{0.5f}));
  EXPECT_TRUE(parsed->Has("c"));
  EXPECT_FALSE(parsed->Has("__metadata__"));
  EXPECT_EQ(parsed->Floats("a", std::vector<uint64_t>{3, 2}).error().message,
            "a has shape [2, 3], config.json wants [3, 2]");
  EXPECT_EQ(parsed->Floats("d", std::vector<uint64_t>{1}).error().message, "no tensor d");
}

TEST(SafetensorsTest, EachDamagedFieldIsNamed) {
  EXPECT_EQ(TroubleOf({}), "safetensors: shorter than its length field");
  EXPECT_EQ(TroubleOf(File("{}", 0, 3)), "safetensors: header of 3 bytes does not fit");
  EXPECT_EQ(TroubleOf(File("{}", 0, ~uint64_t{0})), "safetensors: header of 18446744073709551615 bytes does not fit");
  EXPECT_EQ(TroubleOf(File("{", 0, 1)), "safetensors: the header is not a JSON object");
  EXPECT_EQ(TroubleOf(File("[1]", 0, 3)), "safetensors: the header is not a JSON object");
  const std::string deep(100000, '[');
  EXPECT_EQ(TroubleOf(File(deep, 0, deep.size())), "safetensors: the header is not a JSON object");

  const auto with = [](const char* field, const json& value) {
    json header = GoodHeader();
    header["a"][field] = value;
    return File(header, 34);
  };
  const std::string outside = "safetensors: a: data_offsets lie outside the file";
  const std::string no_shape = "safetensors: a: shape is not a list of up to 8 numbers";
  EXPECT_EQ(TroubleOf(with("dtype", "I64")), "safetensors: a: dtype is none of F32, F16, BF16");
  EXPECT_EQ(TroubleOf(with("dtype", 7)), "safetensors: a: dtype is none of F32, F16, BF16");
  EXPECT_EQ(TroubleOf(with("shape", 6)), no_shape);
  EXPECT_EQ(TroubleOf(with("shape", {-2, 3})), no_shape);
  EXPECT_EQ(TroubleOf(with("shape", {1, 1, 1, 1, 1, 1, 1, 2, 3})), no_shape);
  EXPECT_EQ(TroubleOf(with("shape", {2, 4})), "safetensors: a: shape [2, 4] and data_offsets disagree");
  EXPECT_EQ(TroubleOf(with("shape", {uint64_t{1} << 63, 2, 3})),
            "safetensors: a: shape [9223372036854775808, 2, 3] and data_offsets disagree");
  EXPECT_EQ(TroubleOf(with("data_offsets", {0})), outside);
  EXPECT_EQ(TroubleOf(with("data_offsets", {24, 0})), outside);
  EXPECT_EQ(TroubleOf(with("data_offsets", {16, 40})), outside);
  EXPECT_EQ(TroubleOf(with("data_offsets", {0, ~uint64_t{0}})), outside);
  json header = GoodHeader();
  header["a"].erase("shape");
  EXPECT_EQ(TroubleOf(File(header, 34)), "safetensors: a: dtype, shape or data_offsets is missing");
  header["a"] = 5;
  EXPECT_EQ(TroubleOf(File(header, 34)), "safetensors: a: dtype, shape or data_offsets is missing");
}

TEST(SafetensorsTest, EveryShorterFileIsRefused) {
  const std::vector<std::byte> good = File(GoodHeader(), 34);
  EXPECT_EQ(TroubleOf(good), "accepted");
  for (size_t length = 0; length < good.size(); ++length) {
    EXPECT_NE(TroubleOf({good.begin(), good.begin() + static_cast<ptrdiff_t>(length)}), "accepted") << length;
  }
}

TEST(SafetensorsTest, FlippedBytesNeverReadOutside) {
  const std::vector<std::byte> good = File(GoodHeader(), 34);
  auto random = testing::Rng(1);
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::byte> bytes = good;
    for (int flips = 1 + static_cast<int>(random() % 3); flips > 0; --flips) {
      bytes[random() % bytes.size()] = static_cast<std::byte>(random());
    }
    const Result<Safetensors> parsed = Safetensors::Parse(std::move(bytes));
    if (!parsed.ok()) continue;
    for (const auto& shape : {std::vector<uint64_t>{2, 3}, {4}, {1}}) {
      for (const char* name : {"a", "b", "c"}) (void)parsed->Floats(name, shape).ok();
    }
  }
}

TEST(SafetensorsTest, AbsentFileIsNamed) {
  const std::filesystem::path path = std::filesystem::path(::testing::TempDir()) / "there-is-no-such.safetensors";
  EXPECT_EQ(Safetensors::Read(path).error().code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace kvasir::model
