// SPDX-License-Identifier: Apache-2.0
// What the files that describe commands share. Included by them only: CLI11 is a large header.
#pragma once

#include "deploy/flag_types.h"
#include "deploy/kvasir/command.h"
#include "store/api/store_api.h"

namespace kvasir {

/// A command with its own help; `flags` becomes the command when it is the one typed.
template <class Flags>
CLI::App* AddCommand(CLI::App& app, const char* name, const char* what, const char* footer, Flags* flags,
                     Invocation* invocation) {
  CLI::App* command = app.add_subcommand(name, what);
  command->set_help_flag("-h,--help", "Print this and exit");
  command->footer(footer);
  command->fallthrough();  // global flags may stand after the command
  command->callback([flags, invocation] { invocation->command = *flags; });
  return command;
}

/// Flags of the commands in arguments_cluster.cc.
struct ClusterFlags {
  NodeListFlags node_list;
  NodeDescribeFlags node_describe;
  NodeCordonFlags node_cordon, node_uncordon;
  NodeDrainFlags node_drain;
  LocateFlags locate;
  SimFlags sim;
};
/// node ls, describe, drain, cordon, uncordon; locate.
void AddClusterCommands(CLI::App& app, ClusterFlags* flags, Invocation* invocation);
/// sim cluster.
void AddSimCommand(CLI::App& app, ClusterFlags* flags, Invocation* invocation);

}  // namespace kvasir
