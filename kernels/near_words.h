// SPDX-License-Identifier: Apache-2.0
// NearWords: what someone may have meant who wrote a word that there is not.
#pragma once

#include <algorithm>
#include <cstddef>
#include <numeric>
#include <string_view>
#include <utility>
#include <vector>

namespace kvasir {

/// The least number of letters to put in, take out or replace. Two letters changed places count as two.
inline size_t EditDistance(std::string_view from, std::string_view to) {
  std::vector<size_t> row(to.size() + 1);  // one row of the table at a time
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= from.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j < row.size(); ++j) {
      const size_t replace = diagonal + (from[i - 1] == to[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({replace, row[j] + 1, row[j - 1] + 1}));
    }
  }
  return row.back();
}

/// Of `words` those nearest to `word`, in their order; none where all are so far away that they are other words.
template <class Words>
std::vector<std::string_view> NearWords(std::string_view word, const Words& words) {
  size_t best = word.size() < 4 ? 1 : std::max<size_t>(2, word.size() / 3);
  std::vector<std::string_view> near;
  for (const std::string_view candidate : words) {
    const size_t distance = EditDistance(word, candidate);
    if (distance < best) near.clear();
    if (distance > best) continue;
    best = distance;
    near.push_back(candidate);
  }
  return near;
}

}  // namespace kvasir
