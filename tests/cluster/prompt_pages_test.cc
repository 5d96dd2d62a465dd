// SPDX-License-Identifier: Apache-2.0
// Goal: no wrong byte of a fetched block goes unseen. Method: every bit of every byte of a block turned over, one at a
// time; bytes of other blocks, of other prompts, of an earlier fetch in its place.
#include "tests/cluster/prompt_pages.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>

#include "kernels/codec.h"

namespace kvasir::cluster {
namespace {

PromptShape Small() {
  PromptShape shape;
  shape.blocks = 4;
  shape.head_dim = 4;
  shape.block_tokens = 4;
  return shape;
}
const View kRaw = *View::Make("raw", 1, 1);

/// Every byte of a block in the pages, row by row.
template <class F>
void EachByte(const PromptShape& shape, const PromptPages& pages, uint32_t block, F f) {
  const PagedCache& cache = pages.cache();
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
      for (uint32_t head = 0; head < shape.kv_heads; ++head) {
        for (uint32_t token = block * shape.block_tokens; token < (block + 1) * shape.block_tokens; ++token) {
          std::byte* row =
              cache.At(layer, tensor, pages.table()[token / cache.page_tokens], head, token % cache.page_tokens);
          for (uint32_t byte = 0; byte < shape.head_dim * 2; ++byte) f(row + byte);
        }
      }
    }
  }
}

TEST(PromptPages, EveryBitOfABlockIsLookedAt) {
  const PromptShape shape = Small();
  const Prompt prompt = MakePrompt(shape, 5);
  PromptPages pages(shape);
  for (uint32_t block = 0; block < shape.blocks; ++block) pages.Fill(prompt.chain, block);
  uint64_t flips = 0;
  EachByte(shape, pages, 2, [&](std::byte* byte) {
    for (int bit = 0; bit < 8; ++bit, ++flips) {
      *byte ^= std::byte{static_cast<uint8_t>(1u << bit)};
      ASSERT_NE(pages.FirstWrong(prompt.chain, 2, kRaw), "") << "flip " << flips;
      ASSERT_EQ(pages.FirstWrong(prompt.chain, 1, kRaw), "") << "the neighbour is judged by itself";
      *byte ^= std::byte{static_cast<uint8_t>(1u << bit)};
    }
  });
  EXPECT_EQ(flips, shape.block_bytes() * 8);
  EXPECT_EQ(pages.FirstWrong(prompt.chain, 2, kRaw), "");
}

TEST(PromptPages, BytesOfAnotherBlockPromptOrFetchAreWrong) {
  const PromptShape shape = Small();
  const Prompt mine = MakePrompt(shape, 8), sibling = MakePrompt(shape, 9), stranger = MakePrompt(shape, 12);
  EXPECT_EQ(mine.chain[1], sibling.chain[1]) << "a group shares the first half";
  EXPECT_NE(mine.chain[2], sibling.chain[2]);
  EXPECT_NE(mine.chain[0], stranger.chain[0]);
  PromptPages pages(shape);
  pages.Fill(mine.chain, 2);
  EXPECT_EQ(pages.FirstWrong(mine.chain, 2, kRaw), "");
  EXPECT_NE(pages.FirstWrong(sibling.chain, 2, kRaw), "");
  EXPECT_NE(pages.FirstWrong(stranger.chain, 2, kRaw), "");
  EXPECT_NE(pages.FirstWrong(mine.chain, 3, kRaw), "") << "never written";
  pages.Poison();
  EXPECT_NE(pages.FirstWrong(mine.chain, 2, kRaw), "") << "what an earlier fetch left does not count";
  PromptShape other_seed = shape;
  other_seed.seed = 2;
  pages.Fill(MakePrompt(other_seed, 8).chain, 2);
  EXPECT_NE(pages.FirstWrong(mine.chain, 2, kRaw), "");
}

TEST(PromptPages, ThePlaceIsNamed) {
  const PromptShape shape = Small();
  const Prompt prompt = MakePrompt(shape, 0);
  PromptPages pages(shape);
  pages.Fill(prompt.chain, 3);
  pages.cache().At(1, KvTensor::kValue, pages.table()[3 * 2], 1, 1)[2 * 2] ^= std::byte{1};
  const std::string where = pages.FirstWrong(prompt.chain, 3, kRaw);
  EXPECT_EQ(where.find("block 3 layer 1 V head 1 token 1 element 2: "), 0u) << where;
}

TEST(PromptPages, APlantedBitIsSeenWhateverTheSalt) {
  const PromptShape shape = Small();
  const Prompt prompt = MakePrompt(shape, 1);
  PromptPages pages(shape);
  for (uint64_t salt = 0; salt < 1000; ++salt) {
    pages.Fill(prompt.chain, 1);
    pages.FlipBit(1, salt);
    EXPECT_NE(pages.FirstWrong(prompt.chain, 1, kRaw), "") << "salt " << salt;
  }
}

/// A lossy view's right bytes are what this process's codec makes; raw ones are wrong there.
TEST(PromptPages, ALossyViewHasItsOwnRightBytes) {
  PromptShape shape;
  const Prompt prompt = MakePrompt(shape, 6 * kPromptsPerGroup);
  ASSERT_FALSE(prompt.view.lossless) << prompt.view.spec;
  PromptPages pages(shape);
  pages.Fill(prompt.chain, 0);
  EXPECT_NE(pages.FirstWrong(prompt.chain, 0, prompt.view), "") << "8 bits do not hold 10 random ones";
  const auto codec = *Codec::Parse(prompt.view.spec);
  const FrameShape frame_shape{1, shape.block_tokens, shape.head_dim, ElementType::kBfloat16};
  const PagedCache& cache = pages.cache();
  for (uint32_t layer = 0; layer < shape.layers; ++layer) {
    for (const KvTensor tensor : {KvTensor::kKey, KvTensor::kValue}) {
      for (uint32_t head = 0; head < shape.kv_heads; ++head) {
        std::vector<std::byte> dense(frame_shape.bytes()), frame(codec->MaxFrameBytes(tensor, frame_shape)), scratch;
        const auto row = [&](uint32_t token) {
          return cache.At(layer, tensor, pages.table()[token / cache.page_tokens], head, token % cache.page_tokens);
        };
        const size_t bytes = shape.head_dim * 2;
        for (uint32_t token = 0; token < shape.block_tokens; ++token)
          std::memcpy(&dense[token * bytes], row(token), bytes);
        frame.resize(codec->Encode(tensor, frame_shape, dense, frame, scratch));
        ASSERT_TRUE(codec->Decode(tensor, frame_shape, frame, dense, scratch).ok());
        for (uint32_t token = 0; token < shape.block_tokens; ++token)
          std::memcpy(row(token), &dense[token * bytes], bytes);
      }
    }
  }
  EXPECT_EQ(pages.FirstWrong(prompt.chain, 0, prompt.view), "");
  pages.FlipBit(0, 3);
  EXPECT_NE(pages.FirstWrong(prompt.chain, 0, prompt.view), "");
}

TEST(Prompts, TheSameNumberIsTheSamePromptEverywhere) {
  const PromptShape shape;
  const Prompt once = MakePrompt(shape, 77), again = MakePrompt(shape, 77);
  for (uint32_t block = 0; block < shape.blocks; ++block) EXPECT_EQ(once.chain[block], again.chain[block]);
  std::map<std::string, int> specs;
  for (uint32_t i = 0; i < 32; ++i) ++specs[MakePrompt(shape, i).view.spec];
  EXPECT_EQ(specs.size(), 3u) << "raw, and now and then others";
  EXPECT_GT(specs[kRaw.spec], 16);
}

}  // namespace
}  // namespace kvasir::cluster
