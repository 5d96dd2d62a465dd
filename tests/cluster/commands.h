// SPDX-License-Identifier: Apache-2.0
// Commands: what the load process is told, one JSON object a line, and what it answers, one JSON object a line.
//
//   version                             wire version of this build
//   open     nodes, seed, ...           Sessions; every option of LoadOptions and PromptShape by its name
//   prefill  prompts, threads           pushes so many more prompts
//   start, stop                         readers and writers
//   mark                                ends a stretch of time: its figures; a new one begins
//   await    reads, acked, sweep, s     until so much has happened since the mark: {"reached": true or false}
//   stats                               figures since open, counters of the Sessions
//   verify   s                          reads everything acked; what is not back after s seconds is lost
//   adopt    log                        what another process's log says was acked is to be verified, too
//   plant    what                       "wrong" or "lost": the next verify must find it
//   status   nodes, s                   of each node, as Admin tells it
//   copies   nodes, wanted, s           how many nodes hold each acked block
//   owners   prompt                     node ids in rank order
//   hello    node                       the wire version agreed with a node
//   herd     prompt, clients, sessions, push
//
// Every answer has "ok", and "error" where that is false.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "tests/cluster/load.h"

namespace kvasir::cluster {

/// One process's load. One thread.
class Commands {
 public:
  /// Never throws: a command that is not understood is an answer, too.
  nlohmann::json Run(const nlohmann::json& command);

 private:
  using Json = nlohmann::json;
  absl::StatusOr<Json> Dispatch(const std::string& what, const Json& command);
  absl::StatusOr<Json> Open(const Json& command);
  absl::StatusOr<Json> Await(const Json& command);
  absl::StatusOr<Json> Verify(const Json& command);
  absl::StatusOr<Json> Adopt(const Json& command);
  absl::StatusOr<Json> Plant(const Json& command);
  absl::StatusOr<Json> Owners(const Json& command);

  std::unique_ptr<Load> load_;
};

/// One stretch as the driver reads it.
nlohmann::json ToJson(Figures figures);

}  // namespace kvasir::cluster
