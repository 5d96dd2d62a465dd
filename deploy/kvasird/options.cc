// SPDX-License-Identifier: Apache-2.0
// The flags of kvasird. Each has its default, its unit and its reason in the help, and nowhere else.
#include "deploy/kvasird/options.h"

#include <fcntl.h>

#include <algorithm>
#include <set>

#include "deploy/flag_types.h"
#include "deploy/kvasird/check.h"
#include "deploy/kvasird/huge_pages.h"
#include "deploy/kvasird/members_flag.h"
#include "deploy/members.h"
#include "store/membership/records.h"
#include "transport/transport.h"

namespace kvasir {
namespace {

constexpr uint64_t kDramAuto = 0;  ///< until the limit is known
constexpr uint64_t kDevDramBytes = 1ull << 30;
constexpr uint64_t kDevSsdBytes = 4ull << 30;
constexpr uint64_t kDevMemoryShare = 4;  ///< --dev takes at most this fraction of the machine's memory
constexpr uint64_t kDramBytesMin = 16ull << 20;
constexpr uint64_t kSsdBytesMin = 64ull << 20;
constexpr uint64_t kGatherRateMin = 1ull << 20;
constexpr uint32_t kHotReadsMax = 1'000'000'000;
constexpr uint32_t kThreadsMax = 1024;
constexpr uint32_t kFdMax = 65535;
constexpr Duration kEtcdTtlMin = std::chrono::seconds(2), kEtcdTtlMax = std::chrono::minutes(10);

/// Flags as given, before they are weighed against each other.
struct Flags {
  std::string listen, advertise, members, zone, ssd, data_host, port_file, http;
  std::string transports = "tcp,shm";
  uint64_t ssd_bytes = SsdOptions().bytes_max;
  uint32_t shards = 1, run_blocks = 16, weight = 1;
  std::set<std::string> given;  ///< flags that were on the command line
};

void AddPlaceFlags(CLI::App& app, Flags* flags, DaemonOptions* options) {
  AddText(app, "--id", "NAME", &options->node.id,
          "This node's name, the same after every restart: blocks are placed by it. With a member list it must be one "
          "of the list");
  AddText(app, "--listen", "HOST:PORT", &flags->listen,
          "Where clients and operators call (gRPC). Port 0 takes any free one, see --port-file. Default: this node's "
          "address in --members, else 127.0.0.1:7070, which other machines cannot reach");
  AddText(
      app, "--advertise", "HOST:PORT", &flags->advertise,
      "Where others reach this node, if that is not what it listens at. Port 0 means the port of --listen. Not with "
      "a member list, which says it");
  AddText(app, "--members", "static:FILE|etcd:URL[,URL]", &flags->members,
          "The other nodes. static:FILE, or FILE: a list, the same on every node:\n"
          "  {\"cluster\": \"prod\", \"epoch\": 1, \"run_blocks\": 16, \"members\": [\n"
          "    {\"id\": \"a\", \"control\": \"10.0.0.1:7070\", \"shards\": 1,\n"
          "     \"weight\": 100, \"zone\": \"r1\"}]}\n"
          "etcd:URL[,URL]: each node writes itself into etcd (3.4 or newer), like etcd:http://10.0.0.9:2379. Default: "
          "this node alone");
  AddCount(app, "--shards", &flags->shards, 1, kShardsMax,
           "Threads that serve data, each with an equal share of the memory: more use more cores. A member list says "
           "it");
  AddCount(app, "--run-blocks", &flags->run_blocks, 1, kRunBlocksMax,
           "Blocks of a prompt that stay together on one node: more mean fewer calls, fewer spread a prompt better. "
           "The same on every node; a member list may say it");
}

void AddClusterFlags(CLI::App& app, Flags* flags, DaemonOptions* options) {
  AddText(app, "--cluster", "NAME", &options->etcd.cluster,
          "With etcd: the cluster's name there, so that several share one etcd");
  AddText(
      app, "--zone", "NAME", &flags->zone,
      "Failure domain of this node, as a rack or a power feed: copies of a block avoid sharing one. Default: its own");
  AddCount(app, "--weight", &flags->weight, 1, kWeightMax,
           "This node's share of the blocks, relative to the others'. Default: its GiB of --dram and --ssd-size")
      ->default_str("");
  AddText(app, "--state", "DIR", &options->state_directory,
          "Directory that remembers who this node is, its cluster and the members it last saw: with it a node starts "
          "while etcd is away. Default: the directory cluster in --ssd, else none");
  AddDuration(
      app, "--etcd-ttl", &options->etcd.ttl,
      "A node that etcd has not heard of for this long is no member any more; it renews five times in it. Longer "
      "rides out longer pauses, and is longer about noticing a death");
  AddText(app, "--etcd-ca", "FILE", &options->etcd.ca_file,
          "With https URLs: certificates (PEM) of who may vouch for etcd. Default: those of the system");
  AddText(app, "--etcd-cert", "FILE", &options->etcd.certificate_file,
          "With https URLs: this node's certificate (PEM), where etcd asks for one");
  AddText(app, "--etcd-key", "FILE", &options->etcd.key_file,
          "Its key. Files are read at each connection: renew them in place");
}

constexpr uint64_t kPemBytesMax = 1 << 20;

absl::Status ReadPem(const char* flag, const std::string& file, std::string_view what, std::string* pem) {
  if (file.empty()) return absl::OkStatus();
  auto text = ReadFile(file, kPemBytesMax);
  if (!text.ok()) return absl::InvalidArgumentError(Cat(flag, ": ", text.status().message()));
  if (text->find(Cat("-----BEGIN ", what)) == text->npos && text->find(Cat(" ", what, "-----")) == text->npos) {
    return absl::InvalidArgumentError(Cat(flag, ": ", file, " holds no ", what, " in PEM (-----BEGIN ...)"));
  }
  *pem = *std::move(text);
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> ParseDram(std::string_view text) {
  return Lower(Trim(text)) == "auto" ? absl::StatusOr<uint64_t>(kDramAuto) : ParseSize(text);
}

void AddHttpFlag(CLI::App& app, Flags* flags) {
  app.add_option("--http", flags->http,
                 "Where /livez, /readyz, /metrics and /status.json are: for probes, scrapers and people; off for "
                 "nowhere. Port 0 takes "
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
    return absl::InvalidArgumentError(Cat("--dev serves this machine only, but --http shall listen at ",
                                          address->Text(),
                                          ". Leave --dev out to serve others, or give a loopback address"));
  }
  options->http = *address;
  return absl::OkStatus();
}

void AddRoomFlags(CLI::App& app, Flags* flags, DaemonOptions* options) {
  AddParsed<uint64_t>(
      app, "--dram", "SIZE|auto", ParseDram, &options->node.dram_bytes, "2GiB",
      "Memory for blocks, never exceeded. Leave some of the machine's for the rest of the process and for other "
      "programs; auto does: 80 % of the control group's limit (or the machine's memory) without 128 MiB");
  app.add_flag("--huge-pages", options->node.huge_pages,
               "Keep --dram in pages of 2 MiB: fewer misses of the address cache. They must be set aside before "
               "(vm.nr_hugepages; in "
               "a container the limit hugepages-2Mi), and do not count as memory");
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
  AddSize(
      app, "--gather-rate", &options->node.gather_bytes_per_s,
      "Bytes a second that this node takes from others, at most, when nodes come and go: a share of its link, so that "
      "readers keep the rest");
  AddCount(
      app, "--ssd-planes", &options->node.ssd_planes, 0, kPlanesMax,
      "Planes of a block that are written to the SSD when DRAM runs short, of codecs that have planes: fewer bits of "
      "more blocks. 0 = all");
  AddCount(app, "--hot-reads", &options->node.hot_reads_per_s, 0, kHotReadsMax,
           "Reads of one run a second, above which other nodes are asked to hold it too. 0 = never");
}

void AddTimeFlags(CLI::App& app, DaemonOptions* options) {
  AddDuration(app, "--session-ttl", &options->node.session_ttl,
              "A client that is silent for this long has died, and all it held is freed. Longer rides out pauses");
  AddDuration(app, "--lease", &options->node.lease,
              "How long a reader may hold blocks without renewing. What a dead reader held is back after this + 1s");
  AddDuration(app, "--unfinished-ttl", &options->node.unfinished_ttl,
              "A block some of whose parts never came is dropped after this. Longer than the longest prefill");
  AddDuration(
      app, "--drain-wait", &options->drain_wait,
      "On SIGTERM: the most it waits before it exits: for readers and, with etcd, for others to take over what it "
      "holds. Less than the supervisor's patience");
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
  app.add_flag("--check", options->check,
               "Check flags, files, directories and limits, print the configuration that would be in force, and exit. "
               "Opens no port and no disk: also beside a node that serves");
  app.add_flag("--dev", options->dev,
               "One node to try things: loopback only, at most 1 GiB of memory, a temporary SSD tier of 4 GiB unless "
               "--ssd names a directory; says what to type next");
}

absl::Status CheckFits(const NodeOptions& node, const MemoryLimit& memory) {
  if (!node.huge_pages) return CheckMemory(node.dram_bytes, memory);
  const auto limit = HugePageBytes();
  return limit.ok() ? CheckHugePages(node.dram_bytes, *limit) : limit.status();
}

absl::Status CheckRoom(const Flags& flags, const MemoryLimit& memory, DaemonOptions* options) {
  NodeOptions& node = options->node;
  if (options->dev && !flags.given.contains("--dram")) {
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
  if (absl::Status status = CheckFits(node, memory); !status.ok()) return status;
  node.slab_bytes = std::min(node.slab_bytes, node.dram_bytes / node.shards);
  if (flags.given.contains("--ssd-size") && flags.ssd.empty() && !options->dev) {
    return absl::InvalidArgumentError("--ssd-size without --ssd: name the directory with --ssd DIR");
  }
  if (flags.ssd.empty() && !options->dev) return absl::OkStatus();
  SsdOptions ssd;
  ssd.directory = flags.ssd;
  ssd.bytes_max = options->dev && !flags.given.contains("--ssd-size") ? kDevSsdBytes : flags.ssd_bytes;
  if (ssd.bytes_max < kSsdBytesMin) {
    return absl::InvalidArgumentError(
        Cat("--ssd-size ", HumanBytes(ssd.bytes_max), " is too little. Give at least ", HumanBytes(kSsdBytesMin)));
  }
  ssd.segment_bytes = std::min(ssd.segment_bytes, ssd.bytes_max / 4);
  options->dev_temporary = flags.ssd.empty();
  node.ssd = ssd;
  return absl::OkStatus();
}

/// What a member list says about this node; the flags must not say otherwise.
absl::Status PlaceByList(const Flags& flags, const std::string& file, DaemonOptions* options) {
  NodeOptions& node = options->node;
  for (const char* flag : {"--advertise", "--zone", "--weight"}) {
    if (!flags.given.contains(flag)) continue;
    return absl::InvalidArgumentError(
        Cat(flag, ", but ", file, " says that of every node: write it there, and leave the flag out"));
  }
  const auto text = ReadFile(file, kMembersFileBytesMax);
  if (!text.ok()) return absl::InvalidArgumentError(Cat("--members: ", text.status().message()));
  const auto list = ParseMembers(*text, file);
  if (!list.ok()) return list.status();
  const auto shards = flags.given.contains("--shards") ? std::optional(flags.shards) : std::nullopt;
  const auto self = FindSelf(*list, node.id, shards, file);
  if (!self.ok()) return self.status();
  if (flags.given.contains("--run-blocks") && list->run_blocks.value_or(flags.run_blocks) != flags.run_blocks) {
    return absl::InvalidArgumentError(Cat("--run-blocks ", flags.run_blocks, ", but ", file, " says ",
                                          *list->run_blocks, ". Leave the flag out, or change the list on every node"));
  }
  node.membership = list->membership;
  node.shards = self->shards;
  node.run_blocks = list->run_blocks.value_or(flags.run_blocks);
  options->static_cluster = list->cluster;
  options->advertise = *ParseHostPort(self->control);
  return absl::OkStatus();
}

/// Membership, shards, run_blocks and addresses: from the list, or of a node that knows nobody yet.
absl::Status CheckPlace(const Flags& flags, DaemonOptions* options) {
  NodeOptions& node = options->node;
  node.shards = flags.shards;
  node.run_blocks = flags.run_blocks;
  std::string listen = flags.listen;
  if (flags.given.contains("--members")) {
    auto members = ParseMembersFlag(flags.members);
    if (!members.ok()) return absl::InvalidArgumentError(Cat("--members: ", members.status().message()));
    options->etcd.endpoints = members->endpoints;
    options->etcd.tls = members->tls;
    if (!members->file.empty()) {
      if (absl::Status status = PlaceByList(flags, members->file, options); !status.ok()) return status;
      if (listen.empty()) listen = options->advertise.Text();
    }
  }
  const auto address = ParseHostPort(listen.empty() ? std::string(kDefaultControl) : listen);
  if (!address.ok()) return absl::InvalidArgumentError(Cat("--listen: ", address.status().message()));
  options->listen = *address;
  if (!flags.advertise.empty()) {
    const auto advertise = ParseHostPort(flags.advertise);
    if (!advertise.ok()) return absl::InvalidArgumentError(Cat("--advertise: ", advertise.status().message()));
    options->advertise = *advertise;
  }
  if (options->advertise.host.empty()) options->advertise = options->listen;
  node.data_host = flags.data_host.empty() ? options->advertise.host : flags.data_host;
  return absl::OkStatus();
}

/// A node without a list: it is alone, or etcd knows the others. After CheckRoom: its weight is its room.
absl::Status CheckEtcd(const Flags& flags, DaemonOptions* options) {
  NodeOptions& node = options->node;
  const bool etcd = !options->etcd.endpoints.empty();
  for (const char* flag : {"--cluster", "--etcd-ttl"}) {
    if (!etcd && flags.given.contains(flag)) {
      return absl::InvalidArgumentError(Cat(flag, " is for members in etcd: give --members etcd:URL, or leave it out"));
    }
  }
  for (const char* flag : {"--etcd-ca", "--etcd-cert", "--etcd-key"}) {
    if (!options->etcd.tls && flags.given.contains(flag)) {
      return absl::InvalidArgumentError(
          Cat(flag, " is for an etcd that speaks TLS: write --members etcd:https://HOST:PORT, or leave it out"));
    }
  }
  if (options->etcd.tls) {
    if (auto tls = ReadEtcdTls(options->etcd); !tls.ok()) return tls.status();
  }
  if (etcd && flags.listen.empty()) {
    return absl::InvalidArgumentError(
        "with --members etcd:URL the other nodes must be able to dial this one: say where with --listen HOST:PORT");
  }
  if (options->advertise.host == "0.0.0.0" || options->advertise.host == "::") {
    if (etcd || flags.given.contains("--advertise")) {
      return absl::InvalidArgumentError(
          Cat("others cannot dial ", options->advertise.Text(),
              ". Add --advertise HOST:PORT with this machine's address, as they reach it"));
    }
  }
  const Duration ttl = options->etcd.ttl;
  if (ttl < kEtcdTtlMin || ttl > kEtcdTtlMax || ttl % std::chrono::seconds(1) != Duration::zero()) {
    return absl::InvalidArgumentError("--etcd-ttl must be whole seconds, from 2s to 10m");
  }
  for (const absl::Status& name : {CheckKeyName("--id", node.id, kMemberIdBytesMax),
                                   CheckKeyName("--cluster", options->etcd.cluster, kClusterNameBytesMax)}) {
    if (etcd && !name.ok()) return name;
  }
  if (flags.zone.size() > kMemberIdBytesMax)
    return absl::InvalidArgumentError(Cat("--zone has more than ", kMemberIdBytesMax, " bytes"));
  if (!node.membership.members.empty()) return absl::OkStatus();
  const uint64_t room = (node.dram_bytes + (node.ssd.has_value() ? node.ssd->bytes_max : 0)) >> 30;
  const auto weight = flags.given.contains("--weight")
                          ? flags.weight
                          : static_cast<uint32_t>(std::clamp<uint64_t>(room, 1, kWeightMax));
  node.membership = {.epoch = 1, .members = {{node.id, options->advertise.Text(), node.shards, weight, flags.zone}}};
  return absl::OkStatus();
}

absl::Status CheckAddresses(const Flags& flags, DaemonOptions* options) {
  // Now, before anything is opened: a number that is free would soon be some socket's.
  if (options->ready_fd >= 0 && fcntl(options->ready_fd, F_GETFD) < 0) {
    return absl::InvalidArgumentError(Cat("--ready-fd ", options->ready_fd,
                                          " is not an open descriptor: pass one, as in ", options->ready_fd,
                                          ">ready.txt"));
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
  if (node.gather_bytes_per_s < kGatherRateMin) {
    return absl::InvalidArgumentError(Cat("--gather-rate ", HumanBytes(node.gather_bytes_per_s),
                                          " a second would take over nothing. Give at least ",
                                          HumanBytes(kGatherRateMin)));
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
  kvasird --id a --members etcd:http://10.0.0.9:2379 --listen 10.0.0.1:7070 --dram 32GiB
      one of several that find each other through etcd, and may come and go

Signals: SIGTERM or SIGINT stops new work, waits (--drain-wait), leaves the cluster and exits with 0; a second one exits at once.
Exit status: 0 stopped as asked, 1 it could not go on, 2 a flag, file or directory is not as it must be.)";

}  // namespace

absl::StatusOr<EtcdTls> ReadEtcdTls(const EtcdOptions& options) {
  EtcdTls tls;
  if (options.certificate_file.empty() != options.key_file.empty()) {
    return absl::InvalidArgumentError("--etcd-cert and --etcd-key belong together: give both, or neither");
  }
  for (const absl::Status& status : {ReadPem("--etcd-ca", options.ca_file, "CERTIFICATE", &tls.ca),
                                     ReadPem("--etcd-cert", options.certificate_file, "CERTIFICATE", &tls.certificate),
                                     ReadPem("--etcd-key", options.key_file, "PRIVATE KEY", &tls.key)}) {
    if (!status.ok()) return status;
  }
  return tls;
}

absl::StatusOr<ParsedDaemon> ParseDaemonOptions(int argc, const char* const* argv, const MemoryLimit& memory) {
  DaemonOptions options;
  Flags flags;
  CLI::App app("kvasird keeps KV blocks in memory and on SSD and serves them to inference engines.", "kvasird");
  app.formatter(std::make_shared<HelpFormatter>());
  app.set_version_flag("--version", "kvasird " KVASIR_VERSION, "Print the version and exit");
  app.set_help_flag("-h,--help", "Print this and exit");
  app.footer(kFooter);
  AddPlaceFlags(app, &flags, &options);
  AddClusterFlags(app, &flags, &options);
  AddRoomFlags(app, &flags, &options);
  AddHttpFlag(app, &flags);
  AddDataFlags(app, &flags, &options);
  AddTimeFlags(app, &options);
  AddRunFlags(app, &options);
  try {
    app.parse(Arguments(argc, argv));
  } catch (const CLI::CallForHelp&) {
    return ParsedDaemon{std::nullopt, app.help()};
  } catch (const CLI::CallForVersion& version) {
    return ParsedDaemon{std::nullopt, Cat(version.what(), "\n")};
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(Cat(Explain(app, error), "\nSee: kvasird --help"));
  }
  for (const CLI::Option* option : app.get_options()) {
    if (option->count() > 0) flags.given.insert(option->get_name());
  }
  for (const absl::Status& status :
       {CheckPlace(flags, &options), CheckRoom(flags, memory, &options), CheckAddresses(flags, &options),
        CheckEtcd(flags, &options), CheckHttp(flags, &options)}) {
    if (!status.ok()) return status;
  }
  options.log.node = options.node.id;
  if (options.check) {
    if (absl::Status status = CheckDirectories(options); !status.ok()) return status;
    std::string lines;
    for (const auto& [name, value] : EffectiveConfiguration(options)) lines += Cat(name, " = ", value, "\n");
    return ParsedDaemon{std::nullopt, std::move(lines)};
  }
  return ParsedDaemon{std::move(options), ""};
}

}  // namespace kvasir
