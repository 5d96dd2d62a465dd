// SPDX-License-Identifier: Apache-2.0
// Jobs about rows: which tokens of a chain each head keeps, and rows of heads that differ in length.
//
//   select:  pages of a whole chain, an engine's inputs --Select--> the fate of every token of every head. The CPU
//   device's
//            workers share the heads; the choice is the same however many they are
//   unpack:  part --CRC32C--> decode --> its rows         place:  rows of all parts --> head extents
//
// A part's rows cannot go to their place at once: where a head begins follows from what all parts have of the heads
// before it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/codec.h"
#include "kernels/frame_directory.h"
#include "kernels/head_extents.h"
#include "kernels/paged_cache.h"
#include "kernels/select/select.h"

namespace kvasir {

/// Rows of one head and tensor that a merge has changed.
struct MergedRows {
  std::vector<uint32_t> tokens;  ///< of the chain, ascending
  std::vector<float> rows;       ///< [tokens.size()][dim]
};
/// A selection, and the rows that are stored instead of those in the pages.
struct ChainSelection {
  uint32_t tokens = 0;  ///< of the chain
  Selection selection;
  std::vector<MergedRows> merged;  ///< [layers][heads][tensors]; empty where nothing was merged
};

/// Runs the selecting stages over tokens [0, tokens) of a sequence. Everything named here stays valid until JobDone. A
/// rank, whose cache has some of the heads, takes two jobs, between which ranks exchange scores: one that fills
/// `scored`, then one that is given the `scores` of all. In what is chosen the heads of its cache count.
struct SelectJob {
  std::shared_ptr<const Codec> codec;  ///< its selection() is not null; CheckRanks for a rank
  const PagedCache* cache = nullptr;   ///< all layers of the model; memory of the device or the host
  PageTable pages;
  uint32_t tokens = 0;  ///< a multiple of page_tokens
  const SelectInputs* inputs = nullptr;
  ChainSelection* result = nullptr;      ///< null where only scores are made
  std::vector<float>* scored = nullptr;  ///< [layers][heads of the cache][tokens]
  std::span<const float> scores = {};    ///< [layers][heads of the model][tokens]; empty = they are made here
};

/// Check, decode: the rows of any layer range and head range of a part.
struct UnpackRowsJob {
  std::shared_ptr<const Codec> codec;
  KvLayout layout;                        ///< of the whole model
  PartGeometry part;                      ///< as stored
  uint32_t first_layer = 0, layers = 0;   ///< to decode, inside part
  uint32_t first_head = 0, heads = 0;     ///< to keep, inside part
  std::span<const FrameEntry> directory;  ///< of the whole part, checked by CheckDirectory
  std::span<const std::byte> frames;      ///< the bytes from directory offset `frames_offset` on
  uint64_t frames_offset = 0;             ///< where `frames` begins in the frame area
  PartRows* rows = nullptr;               ///< overwritten
};

/// Copies rows to the extents and writes cu_lengths. kResourceExhausted names the layer that needs more than rows_max,
/// kInvalidArgument a weight where there is no room for weights; the extents are then unspecified.
struct PlaceRowsJob {
  std::vector<std::shared_ptr<const PartRows>> parts;  ///< of the same layer and head: in the order of their tokens
  const HeadExtents* extents = nullptr;
};

}  // namespace kvasir
