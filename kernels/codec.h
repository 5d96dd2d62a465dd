// SPDX-License-Identifier: Apache-2.0
// Codec: a compiled codec spec. A spec is a string naming the stages a frame goes through, for example
//   raw      splitexp      int(8,tok)      k:int(2,chan,32)|v:int(2,tok,32)|P:bits
// letter:name(args) joined by '|'; 'k:' and 'v:' restrict a stage to keys or values; the letter may be left out where
// one stage only has the name. The canonical form prints every letter and every argument; parsing it gives it back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/kv_layout.h"
#include "kernels/result.h"

namespace kvasir {

inline constexpr uint32_t kSpecBytesMax = 512;  ///< longest spec string, canonical or not
inline constexpr uint32_t kPlanesMax = 8;       ///< planes a frame may be cut into

class FrameCoder;  // kernels/frame_coder.h
struct StageInfo;

struct SelectionSpec;  // kernels/selection.h

/// What becomes of one token of one head.
enum class RowClass : uint8_t {
  kDropped = 0,  ///< not stored
  kKept = 1,     ///< goes through the stages
  kDemoted = 2,  ///< goes through the stages marked d:
  kExact = 3,    ///< stored as it is
};

/// What an engine knows of one frame beside its elements, for the stages that ask (StageInfo::needs). Null = not
/// brought. Memory that the encoding device can read, until the frame is encoded.
struct FrameInputs {
  const float* query_peak = nullptr;      ///< [heads][dim]: greatest |q| of each channel over the queries of the head
  const float* query_norm = nullptr;      ///< [heads]: greatest norm of a query of the head
  const float* attention_peak = nullptr;  ///< [heads][tokens]: greatest attention a recent query paid to the token
  uint32_t context_tokens = 0;            ///< of the whole sequence
  uint32_t first_token = 0;               ///< position of the frame's first token in the sequence
  const RowClass* row_classes = nullptr;  ///< [heads][tokens]: the share of this frame in a selection; host memory
  const float* row_weights = nullptr;  ///< [heads][tokens][2]: weight of the row in the sum of exponentials, and in the
                                       ///< sum of values; null = 1 and 1; host memory
  uint32_t merged_count = 0;           ///< rows that a merge has changed
  const uint32_t* merged_slots = nullptr;  ///< [merged_count]: which of [heads][tokens]; host memory
  const float* merged_rows = nullptr;      ///< [merged_count][dim]: what is encoded instead; host memory
};

/// Where the bytes of Encode or Decode are wanted next. The bytes are the same.
enum class Destination : uint8_t {
  kCache,   ///< this core reads them again at once
  kMemory,  ///< nobody here reads them soon: written past the caches where that is faster
};

/// Which rows a frame holds, where a view may hold fewer than all (Codec::drops).
struct StoredRows {
  std::vector<uint32_t> counts;  ///< [heads]
  std::vector<uint32_t> slots;   ///< token in the frame of each row, ascending in a head, head after head
  std::vector<float> weights;    ///< [rows][2] as FrameInputs::row_weights; empty = all 1
};

/// One stage of a spec, as `kvasir codecs explain` tells it.
struct StageUse {
  std::string text;  ///< canonical, with its prefix
  const StageInfo* info = nullptr;
};

/// What one frame is made of.
struct FrameSection {
  std::string name;    ///< the stage that writes it, or what it is
  uint64_t bytes = 0;  ///< at most
};

/// Immutable after Parse; may be used by any number of threads at once.
class Codec {
 public:
  /// Compiles `spec`. kInvalidArgument names the position, what was met, and what is allowed there.
  static Result<std::shared_ptr<const Codec>> Parse(std::string_view spec);

  virtual ~Codec() = default;
  /// The canonical spec: equal strings mean equal bytes out.
  virtual const std::string& spec() const = 0;
  /// True when decode returns the input bits exactly for every input of a supported element type.
  virtual bool lossless() const = 0;
  /// Fails with kInvalidArgument when this codec cannot take such a frame (element type, or a group that does not
  /// divide).
  virtual Result<bool> Check(KvTensor tensor, const FrameShape& shape) const = 0;
  /// Upper bound of one encoded frame, exact where the length does not depend on the data. Check() must have passed.
  virtual uint64_t MaxFrameBytes(KvTensor tensor, const FrameShape& shape) const = 0;
  /// Stored bits per value, metadata counted, when the length does not depend on the data; else the bound.
  double BitsPerValue(KvTensor tensor, const FrameShape& shape) const {
    return 8.0 * static_cast<double>(MaxFrameBytes(tensor, shape)) / static_cast<double>(shape.elements());
  }
  /// Encodes dense [heads][tokens][dim] elements. Returns the bytes written into `out` (>= MaxFrameBytes long).
  /// Runs on the calling thread with the best body this CPU has. `scratch` is resized at need and may be reused.
  virtual uint64_t Encode(KvTensor tensor, const FrameShape& shape, std::span<const std::byte> dense,
                          std::span<std::byte> out, std::vector<std::byte>& scratch,
                          Destination destination = Destination::kCache, const FrameInputs& inputs = {}) const = 0;
  /// Decodes into dense [heads][tokens][dim]. kDataLoss when the bytes cannot be such a frame; never reads outside
  /// `frame`, whatever it holds.
  virtual Result<bool> Decode(KvTensor tensor, const FrameShape& shape, std::span<const std::byte> frame,
                              std::span<std::byte> dense, std::vector<std::byte>& scratch,
                              Destination destination = Destination::kCache) const = 0;
  /// kInvalidArgument names the first input that a stage of this codec needs and `inputs` lacks: ask before encoding.
  virtual Result<bool> CheckInputs(KvTensor tensor, const FrameInputs& inputs) const = 0;
  /// The stages, as written.
  virtual std::span<const StageUse> stages() const = 0;
  /// What frames of such a shape are made of; the bytes sum to MaxFrameBytes.
  virtual std::vector<FrameSection> Sections(KvTensor tensor, const FrameShape& shape) const = 0;
  /// What the spec says about tokens; null when all are kept.
  virtual const SelectionSpec* selection() const = 0;
  /// True when frames may lack tokens: they are read by Rows and DecodeRows, Decode refuses them.
  virtual bool drops() const = 0;
  /// The rows that `frame` holds. kDataLoss when the bytes cannot be such a frame.
  virtual Result<StoredRows> Rows(KvTensor tensor, const FrameShape& shape, std::span<const std::byte> frame) const = 0;
  /// Decodes the rows that are there, one behind the other: `rows` has exactly their bytes.
  virtual Result<bool> DecodeRows(KvTensor tensor, const FrameShape& shape, std::span<const std::byte> frame,
                                  std::span<std::byte> rows, std::vector<std::byte>& scratch) const = 0;
  /// Into how many planes a frame may be cut: 1 = none. Planes 0 to i of a frame are its first PlaneEnd(i) bytes, and
  /// Decode takes them as a frame of fewer bits. Lengths of planes do not depend on the data.
  virtual uint32_t planes() const = 0;
  /// REQUIRES: plane < planes(), Check() passed.
  virtual uint64_t PlaneEnd(KvTensor tensor, const FrameShape& shape, uint32_t plane) const = 0;
  /// The chain of stages of one tensor: for devices that run its bodies themselves.
  virtual const FrameCoder& coder(KvTensor tensor) const = 0;
};

/// One line of `kvasir codecs`.
struct StageInfo {
  std::string_view letter;   ///< "Q"
  std::string_view name;     ///< "int"
  std::string_view usage;    ///< "int(bits,axis,group,sym|asym)"
  std::string_view meaning;  ///< one sentence, with the paper
  std::string_view needs{};  ///< the inputs it cannot do without (FrameInputs, SelectInputs), separated by ", "
};
/// Every stage of this build, in table order.
std::span<const StageInfo> Stages();

/// Upper bound of the frame area of a part, alignment counted: sizes the staging slot.
uint64_t MaxFrameAreaBytes(const Codec& codec, const KvLayout& layout, const PartGeometry& part);

}  // namespace kvasir
