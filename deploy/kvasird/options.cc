// SPDX-License-Identifier: Apache-2.0
// The flags of kvasird. Each has its default, its unit and its reason in the help, and nowhere else.
#include "deploy/kvasird/options.h"

#include <fcntl.h>

#include <algorithm>

#include "deploy/flag_types.h"
#include "deploy/members.h"
#include "transport/transport.h"

namespace kvasir {
namespace {

constexpr uint64_t kDramAuto = 0;  ///< until the limit is known
constexpr uint64_t kDevDramBytes = 1ull << 30;
constexpr uint64_t kDevSsdBytes = 4ull << 30;
constexpr uint64_t kDevMemoryShare = 4;  ///< --dev takes at most this fraction of the machine's memory
constexpr uint64_t kDramBytesMin = 16ull << 20;
constexpr uint64_t kSsdBytesMin = 64ull << 20;
constexpr uint32_t kThreadsMax = 1024;
constexpr uint32_t kFdMax = 65535;

/// Flags as given, before they are weighed against each other.
struct Flags {
  std::string listen, members, ssd, data_host, port_file, http;
  std::string transports = "tcp,shm";
  uint64_t ssd_bytes = SsdOptions().bytes_max;
  uint32_t shards = 1, run_blocks = 16;
  bool shards_given = false, run_blocks_given = false, dram_given = false, ssd_size_given = false;
};

void AddPlaceFlags(CLI::App& app, Flags* flags, DaemonOptions* options) {
  AddText(app, "--id", "NAME", &options->node.id,
          "This node's name, the same after every restart: blocks are placed by it. With --members it must be one of "
          "the list");
  AddText(app, "--listen", "HOST:PORT", &flags->listen,
          "Where clients and operators call (gRPC). Port 0 takes any free one, see --port-file. Default: this node's "
          "address in --members, else 127.0.0.1:7070, which other machines cannot reach");
  AddText(app, "--members", "FILE", &flags->members,
          "Member list of the cluster, the same file on every node:\n"
          "  {\"epoch\": 1, \"run_blocks\": 16, \"members\": [\n"
          "    {\"id\": \"a\", \"control\": \"10.0.0.1:7070\", \"shards\": 1,\n"
          "     \"weight\": 100, \"zone\": \"r1\"}]}\n"
          "Default: this node alone");
  AddCount(app, "--shards", &flags->shards, 1, kShardsMax,
           "Threads that serve data, each with an equal share of the memory: more use more cores. With --members the "
           "list says it");
  AddCount(app, "--run-blocks", &flags->run_blocks, 1, kRunBlocksMax,
           "Blocks of a prompt that stay together on one node: more mean fewer calls, fewer spread a prompt better. "
           "The same on every node; --members may say it");
}

absl::StatusOr<uint64_t> ParseDram(std::string_view text) {
  return Lower(Trim(text)) == "auto" ? absl::StatusOr<uint64_t>(kDramAuto) : ParseSize(text);
}

void AddHttpFlag(CLI::App& app, Flags* flags) {
  app.add_option("--http", flags->http,
                 "Where /livez, /readyz, /metrics and /status.json are: for probes, scrapers and people; off for nowhere. Port 0 takes "
                 "any free one, see --port-file. Default: 127.0.0.1:7071, or any free port where that one is taken")
      ->type_name("HOST:PORT|off");
}

/// Where the pages are: as told, nowhere, or the default.
absl::Status CheckHttp(const Flags& flags, DaemonOptions* options) {
  if (flags.http.empty()) return absl::OkStatus();
  options->http_given = true;
  options->http.reset();
  if (Lower(flags.http) == "off") return absl::OkStatus();
  const auto address = ParseHostPort(flags.http);
  if (!address.ok()) return absl::InvalidArgumentError(Cat("--http: ", address.status().message(), ", or off"));
  if (options->dev && !IsLoopback(address->host)) {
    return absl::InvalidArgumentError(Cat("--dev serves this machine only, but --http shall listen at ", address->Text(),
                                          ". Leave --dev out to serve others, or give a loopback address"));
  }
  options->http = *address;
  return absl::OkStatus();
}

void AddRoomFlags(CLI::App& app, Flags* flags, DaemonOptions* options) {
  AddParsed<uint64_t>(app, "--dram", "SIZE|auto", ParseDram, &options->node.dram_bytes, "2GiB",
                      "Memory for blocks, never exceeded. Leave some of the machine's for the rest of the process and for other "
                      "programs; auto does: 80 % of the control group's limit (or the machine's memory) without 128 MiB");
  AddText(app, "--ssd", "DIR", &flags->ssd,
          "Directory of the SSD tier, made if it is not there. Blocks pushed DURABLE are found again after a restart "
          "on the same directory. Default: no SSD tier");
  AddSize(app, "--ssd-size", &flags->ssd_bytes, "Room for blocks in --ssd, never exceeded: the coldest make way");
  AddCount(app, "--codec-threads", &options->node.codec_threads, 1, kThreadsMax,
           "Threads that check the checksums of what arrives: more where one cannot keep up with the network");
}

void AddDataFlags(CLI::App& app, Flags* flags, DaemonOptions* options) {
  AddText(app, "--transports", "LIST", &flags->transports,
          "How block data may travel, separated by commas: shm serves clients on this machine, tcp everyone");
  AddText(app, "--data-host", "HOST", &flags->data_host,
          "Address of the data ports, as clients dial it. Default: the host clients call");
  AddCount(app, "--data-port", &options->node.data_port, 0, 65535,
           "First tcp data port; shard i has this + i. 0 takes any free ones, and clients are told which: set it where "
           "a firewall must know");
}

void AddTimeFlags(CLI::App& app, DaemonOptions* options) {
  AddDuration(app, "--session-ttl", &options->node.session_ttl,
              "A client that is silent for this long has died, and all it held is freed. Longer rides out pauses");
  AddDuration(app, "--lease", &options->node.lease,
              "How long a reader may hold blocks without renewing. What a dead reader held is back after this + 1s");
  AddDuration(app, "--unfinished-ttl", &options->node.unfinished_ttl,
              "A block some of whose parts never came is dropped after this. Longer than the longest prefill");
  AddDuration(app, "--drain-wait", &options->drain_wait,
              "On SIGTERM: the most it waits for readers before it exits. Less than the supervisor's patience");
}

void AddRunFlags(CLI::App& app, DaemonOptions* options) {
  AddParsed<Severity>(app, "--log-level", "LEVEL", ParseSeverity, &options->log.level, "info",
                      "Least severity that is logged, to stderr: info, warning or error");
  app.add_flag("--json-logs", options->log.json, "Log lines as JSON objects, for collectors");
  app.add_option(
         "--ready-fd", options->ready_fd,
         "Write one line to this inherited file descriptor when serving, then close it: scripts wait by reading")
      ->type_name("FD");
  app.add_option("--port-file", options->port_file,
                 "Write id, pid and addresses to this file as JSON when serving (appears at once, never half written)")
      ->type_name("FILE");
  app.add_flag("--dev", options->dev,
               "One node to try things: loopback only, at most 1 GiB of memory, a temporary SSD tier of 4 GiB unless "
               "--ssd names a directory; says what to type next");
}

absl::Status CheckRoom(const Flags& flags, const MemoryLimit& memory, DaemonOptions* options) {
  NodeOptions& node = options->node;
  if (options->dev && !flags.dram_given) {
    node.dram_bytes = kDevDramBytes;
    if (memory.bytes != 0) node.dram_bytes = std::min(node.dram_bytes, memory.bytes / kDevMemoryShare);
  }
  options->memory = memory;
  if (node.dram_bytes == kDramAuto) {
    const auto dram = AutoDram(memory);
    if (!dram.ok()) return dram.status();
    node.dram_bytes = *dram;
  }
  if (node.dram_bytes < kDramBytesMin) {
    return absl::InvalidArgumentError(Cat("--dram ", HumanBytes(node.dram_bytes),
                                          " is too little to hold blocks. Give at least ", HumanBytes(kDramBytesMin)));
  }
  if (absl::Status status = CheckMemory(node.dram_bytes, memory); !status.ok()) return status;
  node.slab_bytes = std::min(node.slab_bytes, node.dram_bytes / node.shards);
  if (flags.ssd_size_given && flags.ssd.empty() && !options->dev) {
    return absl::InvalidArgumentError("--ssd-size without --ssd: name the directory with --ssd DIR");
  }
  if (flags.ssd.empty() && !options->dev) return absl::OkStatus();
  SsdOptions ssd;
  ssd.directory = flags.ssd;
  ssd.bytes_max = options->dev && !flags.ssd_size_given ? kDevSsdBytes : flags.ssd_bytes;
  if (ssd.bytes_max < kSsdBytesMin) {
    return absl::InvalidArgumentError(
        Cat("--ssd-size ", HumanBytes(ssd.bytes_max), " is too little. Give at least ", HumanBytes(kSsdBytesMin)));
  }
  ssd.segment_bytes = std::min(ssd.segment_bytes, ssd.bytes_max / 4);
  options->dev_temporary = flags.ssd.empty();
  node.ssd = ssd;
  return absl::OkStatus();
}

/// Membership, shards, run_blocks and the address to listen at: from the list, or of a cluster of one.
absl::Status CheckPlace(const Flags& flags, DaemonOptions* options) {
  NodeOptions& node = options->node;
  std::string listen = flags.listen;
  node.shards = flags.shards;
  node.run_blocks = flags.run_blocks;
  std::string announced;
  if (!flags.members.empty()) {
    const auto text = ReadFile(flags.members, kMembersFileBytesMax);
    if (!text.ok()) return absl::InvalidArgumentError(Cat("--members: ", text.status().message()));
    const auto list = ParseMembers(*text, flags.members);
    if (!list.ok()) return list.status();
    const auto shards = flags.shards_given ? std::optional(flags.shards) : std::nullopt;
    const auto self = FindSelf(*list, node.id, shards, flags.members);
    if (!self.ok()) return self.status();
    if (flags.run_blocks_given && list->run_blocks.value_or(flags.run_blocks) != flags.run_blocks) {
      return absl::InvalidArgumentError(Cat("--run-blocks ", flags.run_blocks, ", but ", flags.members, " says ",
                                            *list->run_blocks,
                                            ". Leave the flag out, or change the list on every node"));
    }
    node.membership = list->membership;
    node.shards = self->shards;
    node.run_blocks = list->run_blocks.value_or(flags.run_blocks);
    announced = self->control;
  }
  if (listen.empty()) listen = announced.empty() ? std::string(kDefaultControl) : announced;
  const auto address = ParseHostPort(listen);
  if (!address.ok()) return absl::InvalidArgumentError(Cat("--listen: ", address.status().message()));
  options->listen = *address;
  if (node.membership.members.empty()) {
    node.membership = {.epoch = 1, .members = {{node.id, address->Text(), node.shards, 100, ""}}};
  }
  node.data_host = !flags.data_host.empty() ? flags.data_host
                   : announced.empty()      ? address->host
                                            : ParseHostPort(announced)->host;
  return absl::OkStatus();
}

absl::Status CheckAddresses(const Flags& flags, DaemonOptions* options) {
  // Now, before anything is opened: a number that is free would soon be some socket's.
  if (options->ready_fd >= 0 && fcntl(options->ready_fd, F_GETFD) < 0) {
    return absl::InvalidArgumentError(Cat("--ready-fd ", options->ready_fd, " is not an open descriptor: pass one, as in ",
                                          options->ready_fd, ">ready.txt"));
  }
  NodeOptions& node = options->node;
  if (node.id.empty() || node.id.size() > kMemberIdBytesMax) {
    return absl::InvalidArgumentError(Cat("--id must have 1 to ", kMemberIdBytesMax, " bytes"));
  }
  if (options->dev && (!IsLoopback(options->listen.host) || !IsLoopback(node.data_host))) {
    return absl::InvalidArgumentError(Cat("--dev serves this machine only, but it shall listen at ",
                                          options->listen.Text(),
                                          ". Leave --dev out to serve others, or give a loopback address"));
  }
  if (node.data_host == "0.0.0.0" || node.data_host == "::") {
    return absl::InvalidArgumentError(
        Cat("clients cannot dial ", node.data_host,
            " for data. Add --data-host with this machine's address, as clients reach it"));
  }
  if (node.data_port != 0 && node.data_port + node.shards - 1 > 65535) {
    return absl::InvalidArgumentError(
        Cat("--data-port ", node.data_port, " and ", node.shards, " shards go past port 65535"));
  }
  node.transports = Split(flags.transports, ',');
  const std::vector<std::string> known = TransportNames();
  if (node.transports.empty())
    return absl::InvalidArgumentError(Cat("--transports is empty; there are ", Join(known, ", ")));
  for (const std::string& name : node.transports) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      return absl::InvalidArgumentError(
          Cat("--transports: no \"", name, "\" in this build; there are ", Join(known, ", ")));
    }
  }
  return absl::OkStatus();
}

constexpr const char* kFooter = R"(Examples:
  kvasird --dev
      one node to try things with; then, in another terminal: kvasir status
  kvasird --dram 32GiB --ssd /var/lib/kvasir --ssd-size 500GiB --listen 10.0.0.1:7070
      one node that other machines can reach
  kvasird --id a --members members.json --dram 32GiB --ssd /var/lib/kvasir
      one of several; start it so on each machine, with its own --id

Signals: SIGTERM or SIGINT stops new work, waits for readers and exits with 0; a second one exits at once.
Exit status: 0 stopped as asked, 1 it could not go on, 2 a flag, file or directory is not as it must be.)";

}  // namespace

absl::StatusOr<ParsedDaemon> ParseDaemonOptions(int argc, const char* const* argv, const MemoryLimit& memory) {
  DaemonOptions options;
  Flags flags;
  CLI::App app("kvasird keeps KV blocks in memory and on SSD and serves them to inference engines.", "kvasird");
  app.formatter(std::make_shared<HelpFormatter>());
  app.set_version_flag("--version", "kvasird " KVASIR_VERSION, "Print the version and exit");
  app.set_help_flag("-h,--help", "Print this and exit");
  app.footer(kFooter);
  AddPlaceFlags(app, &flags, &options);
  AddRoomFlags(app, &flags, &options);
  AddHttpFlag(app, &flags);
  AddDataFlags(app, &flags, &options);
  AddTimeFlags(app, &options);
  AddRunFlags(app, &options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    return ParsedDaemon{std::nullopt, app.help()};
  } catch (const CLI::CallForVersion& version) {
    return ParsedDaemon{std::nullopt, Cat(version.what(), "\n")};
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(Cat(Explain(app, error), "\nSee: kvasird --help"));
  }
  flags.shards_given = app.count("--shards") > 0;
  flags.run_blocks_given = app.count("--run-blocks") > 0;
  flags.dram_given = app.count("--dram") > 0;
  flags.ssd_size_given = app.count("--ssd-size") > 0;
  for (const absl::Status& status :
       {CheckPlace(flags, &options), CheckRoom(flags, memory, &options), CheckAddresses(flags, &options),
        CheckHttp(flags, &options)}) {
    if (!status.ok()) return status;
  }
  options.log.node = options.node.id;
  return ParsedDaemon{std::move(options), ""};
}

}  // namespace kvasir
