// SPDX-License-Identifier: Apache-2.0
// What the programs of this folder say: one line of JSON a row on stdout, at once, so that whoever reads can follow.
#pragma once

#include <cstdio>
#include <nlohmann/json.hpp>

#include "kernels/result.h"

namespace kvasir::quality {

inline int Fail(const Error& error) {
  std::fprintf(stderr, "quality: %s\n", error.message.c_str());
  return 2;
}

inline void Say(const nlohmann::json& line) {
  std::printf("%s\n", line.dump().c_str());
  std::fflush(stdout);
}

/// `line` with what was measured, as `fields` tells it, or why it could not be.
template <class Figures, class Fields>
void SayMeasured(nlohmann::json line, const Result<Figures>& figures, const Fields& fields) {
  line["ok"] = figures.ok();
  if (figures.ok()) {
    line.update(fields(*figures));
  } else {
    line["why"] = figures.error().message;
  }
  Say(line);
}

}  // namespace kvasir::quality
