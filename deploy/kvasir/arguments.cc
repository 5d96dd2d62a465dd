// SPDX-License-Identifier: Apache-2.0
// The command line of `kvasir`: one function a command, each with an example, so that its help can be typed as it
// stands.
#include "deploy/kvasir/arguments.h"

namespace kvasir {
namespace {

constexpr uint32_t kListLimitMax = 1'000'000;

struct AllFlags {
  StatusFlags status;
  ListFlags list;
  StatFlags stat;
  HashFlags hash;
  BenchFlags bench;
  VerifyFlags verify;
  InspectFlags inspect;
  CodecsFlags codecs;
  VersionFlags version;
  ClusterFlags cluster;
  std::vector<std::string> help_about;
  bool help = false;
};

void AddNodeCommands(CLI::App& app, AllFlags* all, Invocation* invocation) {
  CLI::App* status = AddCommand(
      app, "status", "Nodes of the cluster: state, fill of the tiers, counters",
      "Examples:\n  kvasir status\n  kvasir --node 10.0.0.1:7070 status -o json\n  kvasir status --cluster\n      "
      "exit status 0 only when all is well: until kvasir status --cluster; do sleep 5; done",
      &all->status, invocation);
  CLI::Option* only = status->add_flag("--only-named", all->status.only_named,
                                       "Ask the nodes of --node only, not the other members that they know");
  status->add_flag("--cluster", all->status.cluster, "One table with totals, and in words whether the whole is healthy")
      ->excludes(only);
  AddCount(*status, "--replicas", &all->status.replicas, 1, kReplicasMax,
           "With --cluster: copies that must find distinct zones. Default: 2, or 1 on a single node")
      ->default_str("");
  CLI::App* list = AddCommand(app, "ls", "Blocks that are stored, one line a block and view",
                              "Examples:\n  kvasir ls\n      the first hundred\n  kvasir ls 3f09 --limit 1000\n      "
                              "those whose key begins with 3f09",
                              &all->list, invocation);
  list->add_option("PREFIX", all->list.prefix, "Beginning of the key, in hexadecimal. Default: all blocks")
      ->type_name(" ");
  AddCount(*list, "--limit", &all->list.limit, 1, kListLimitMax, "Lines at most: a store may hold millions of blocks");
  CLI::App* stat =
      AddCommand(app, "stat", "Everything known about one block",
                 "Example:\n  kvasir stat 3f0912ab\n      as `kvasir ls` shows the key; a unique beginning is enough",
                 &all->stat, invocation);
  stat->add_option("KEY", all->stat.key, "The key, or a beginning of it, in hexadecimal")->type_name(" ")->required();
}

void AddHashCommand(CLI::App& app, AllFlags* all, Invocation* invocation) {
  CLI::App* hash = AddCommand(
      app, "hash", "Keys of the blocks of a text or token file",
      "Examples:\n"
      "  kvasir hash --namespace model.json --passphrase-file secret prompt.txt\n"
      "      each byte of the file is a token\n"
      "  kvasir hash --namespace model.json --passphrase-file secret --tokens ids.txt\n"
      "      the file holds token numbers, separated by blanks, commas or line breaks\n\n"
      "model.json says what the bytes mean; weights is the SHA-256 of the model's weights:\n"
      "  {\"name\": \"my-model\", \"weights\": \"<64 hex digits>\", \"block_tokens\": 256, \"rope_theta\": 500000,\n"
      "   \"layout\": {\"layers\": 32, \"kv_heads\": 8, \"key_dim\": 128, \"value_dim\": 128, \"element\": \"bf16\"}}",
      &all->hash, invocation);
  hash->add_option("FILE", all->hash.file, "The text or tokens; - reads standard input")->type_name(" ")->required();
  AddText(*hash, "--namespace", "FILE", &all->hash.namespace_file, "What the blocks mean, as JSON (see below)")
      ->required();
  CLI::Option* words =
      AddText(*hash, "--passphrase", "TEXT", &all->hash.passphrase,
              "Passphrase of the trust domain. Other users of this machine may see it: prefer the file");
  AddText(*hash, "--passphrase-file", "FILE", &all->hash.passphrase_file,
          "File that holds the passphrase; one line break at its end does not count")
      ->excludes(words);
  hash->add_flag("--tokens", all->hash.tokens, "FILE holds token numbers. Default: each byte is a token");
}

void AddBenchCommand(CLI::App& app, AllFlags* all, Invocation* invocation) {
  CLI::App* bench =
      AddCommand(app, "bench", "Push random blocks to a running store, fetch them back, compare every byte",
                 "Examples:\n  kvasir bench\n  kvasir bench --blocks 256 --codec 'int(8,tok)' --in-flight 16\n  kvasir "
                 "bench --durable -o json\n\n"
                 "The blocks are real ones under a namespace and a key of their own: they push others out when the "
                 "store is full,\n"
                 "and are offered for eviction first when the bench is done.",
                 &all->bench, invocation);
  BenchFlags& flags = all->bench;
  AddCount(*bench, "--blocks", &flags.blocks, 1, 1u << 20, "Blocks to push and fetch");
  AddCount(*bench, "--block-tokens", &flags.block_tokens, 16, 4096, "Tokens of a block");
  AddCount(*bench, "--layers", &flags.layers, 1, 1024, "Layers of the made-up model");
  AddCount(*bench, "--heads", &flags.heads, 1, 1024, "KV heads of the made-up model");
  AddCount(*bench, "--dim", &flags.dim, 8, 1024, "Elements of a head (bf16)");
  AddCount(*bench, "--in-flight", &flags.in_flight, 1, 1024,
           "Blocks under way at once: more hide latency, one shows it");
  AddCount(*bench, "--replicas", &flags.replicas, 1, 16, "Nodes that must hold each block before its push is done");
  bench->add_flag("--durable", flags.durable, "A push is done only when the block is on the SSD of each of them");
  AddText(*bench, "--codec", "SPEC", &flags.codec, "How the blocks are compressed, a method or a spec of `kvasir codecs`; auto: tries the lossless ones, and says which a Session would choose");
  AddCount(
      *bench, "--planes", &flags.planes, 0, kPlanesMax,
      "Planes that a fetch takes of a codec that has them (hier(4+4,tok)|planes): fewer bytes, fewer bits. 0 = all");
  AddText(*bench, "--transports", "LIST", &flags.transports, "How the data may travel, best first");
}

void AddCodecsCommand(CLI::App& app, AllFlags* all, Invocation* invocation) {
  CLI::App* codecs =
      AddCommand(app, "codecs", "Stages that a codec spec may name, and methods that are ready",
                 "Examples:\n  kvasir codecs\n      a spec joins stages by |: k:int(2,chan,32)|v:int(2,tok,32)|P:bits\n"
                 "  kvasir codecs explain kivi2",
                 &all->codecs, invocation);
  codecs->require_subcommand(0, 1);
  CLI::App* explain = codecs->add_subcommand("explain", "What each stage of a spec does, what it needs, what it costs");
  explain->set_help_flag("-h,--help", "Print this and exit");
  explain->fallthrough();
  explain->footer(
      "Examples:\n  kvasir codecs explain kivi2\n  kvasir codecs explain 'B:uni(0.25)|E:knorm|R:sink(4)|int(4,tok)' -o "
      "json\n\n"
      "The numbers are for bf16 and head dimension 128, in blocks of 256 tokens.");
  explain->add_option("SPEC", all->codecs.explain, "A spec, or the name of a method")->type_name(" ")->required();
}

void AddFileCommands(CLI::App& app, AllFlags* all, Invocation* invocation) {
  CLI::App* verify = AddCommand(app, "verify", "Read an SSD tier that no node uses and check every checksum",
                                "Example:\n  kvasir verify /var/lib/kvasir\n      exit status 1 if any part is damaged",
                                &all->verify, invocation);
  verify->add_option("DIR", all->verify.directory, "The directory a kvasird had as --ssd")->type_name(" ")->required();
  CLI::App* inspect =
      AddCommand(app, "inspect", "Show the parts in a part or segment file and check their checksums",
                 "Examples:\n  kvasir inspect /var/lib/kvasir/segments/00000001.seg\n"
                 "  kvasir inspect --frames part.bin\n      also every frame's place, length and checksum",
                 &all->inspect, invocation);
  inspect->add_option("FILE", all->inspect.file, "The file")->type_name(" ")->required();
  inspect->add_flag("--frames", all->inspect.frames, "One line for each frame. Default: damaged ones only");
  AddCodecsCommand(app, all, invocation);
  AddCommand(app, "version", "Versions of the program and the wire", "Example:\n  kvasir version -o json",
             &all->version, invocation);
}

constexpr const char* kFooter = R"(Examples:
  kvasird --dev                starts a node to try things with
  kvasir status                then, in another terminal
  kvasir bench                 moves some blocks there and back
  kvasir node ls               of a cluster: its nodes; any one knows the others
  kvasir help bench            explains a command

Exit status: 0 done, 1 it did not work (no node, damaged bytes), 2 a flag or file is not as it must be,
4 some nodes did not answer and the rest was shown.)";

absl::Status CheckGlobal(const std::string& environment, const std::string& format, GlobalFlags* global) {
  if (format != "table" && format != "json") {
    return absl::InvalidArgumentError(Cat("-o ", format, " is no format. Write -o table or -o json"));
  }
  global->json = format == "json";
  const bool typed = !global->nodes.empty();
  if (!typed)
    global->nodes =
        environment.empty() ? std::vector<std::string>{std::string(kDefaultControl)} : Split(environment, ',');
  for (const std::string& node : global->nodes) {
    const auto address = ParseHostPort(node);
    if (!address.ok())
      return absl::InvalidArgumentError(Cat(typed ? "--node: " : "KVASIR_NODE: ", address.status().message()));
  }
  return absl::OkStatus();
}

/// What was typed of commands, outermost first: "node", "drain".
std::vector<CLI::App*> Typed(CLI::App& app) {
  std::vector<CLI::App*> path;
  for (CLI::App* at = &app; !at->get_subcommands().empty(); path.push_back(at)) at = at->get_subcommands().front();
  return path;
}
std::vector<std::string> NamesOf(const std::vector<CLI::App*>& path) {
  std::vector<std::string> names;
  for (const CLI::App* command : path) names.push_back(command->get_name());
  return names;
}

/// The help of `kvasir help node drain`, or of everything.
absl::StatusOr<std::string> HelpAbout(CLI::App& app, const std::vector<std::string>& names) {
  CLI::App* about = &app;
  std::string typed;
  for (const std::string& name : names) {
    std::vector<std::string> known;
    CLI::App* next = nullptr;
    for (CLI::App* command : about->get_subcommands([](CLI::App*) { return true; })) {
      if (command->get_name() == name) next = command;
      known.push_back(command->get_name());
    }
    const std::string_view near = Nearest(name, known);
    if (next == nullptr) {
      return absl::InvalidArgumentError(
          Cat("there is no command ", typed, name,
              near.empty() ? Cat(". See: kvasir help ", Trim(typed)) : Cat("; did you mean ", near, "?")));
    }
    typed += name + " ";
    about = next;
  }
  const std::string before =
      typed.empty() ? "" : Cat("kvasir ", typed.substr(0, typed.size() - names.back().size() - 1));
  return about == &app ? app.help() : about->help(std::string(Trim(before)));
}

}  // namespace

absl::StatusOr<Invocation> ParseCommandLine(int argc, const char* const* argv,
                                            const std::string& node_from_environment) {
  Invocation invocation;
  AllFlags all;
  std::string format = "table";
  CLI::App app("kvasir asks a running Kvasir store, measures it, and looks into its files.", "kvasir");
  app.formatter(std::make_shared<HelpFormatter>());
  app.set_help_flag("-h,--help", "Print this and exit");
  app.set_version_flag("--version", "kvasir " KVASIR_VERSION, "Print the version and exit");
  app.footer(kFooter);
  app.require_subcommand(0, 1);
  app.add_option("--node", invocation.global.nodes,
                 "A node to ask; may be repeated. Default: the environment variable KVASIR_NODE, else 127.0.0.1:7070")
      ->type_name("HOST:PORT")
      ->allow_extra_args(false);
  AddText(app, "-o,--output", "FORMAT", &format, "table for people, json for programs");
  AddDuration(app, "--timeout", &invocation.global.timeout, "The longest a node may take to answer one call");
  AddNodeCommands(app, &all, &invocation);
  AddClusterCommands(app, &all.cluster, &invocation);
  AddHashCommand(app, &all, &invocation);
  AddBenchCommand(app, &all, &invocation);
  AddSimCommand(app, &all.cluster, &invocation);
  AddFileCommands(app, &all, &invocation);
  CLI::App* help = app.add_subcommand("help", "Explain a command");
  help->add_option("COMMAND", all.help_about, "The command")->type_name(" ");
  help->callback([&all] { all.help = true; });
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    auto text = HelpAbout(app, NamesOf(Typed(app)));
    if (!text.ok()) return text.status();
    invocation.print = *std::move(text);
    return invocation;
  } catch (const CLI::CallForVersion& version) {
    invocation.print = Cat(version.what(), "\n");
    return invocation;
  } catch (const CLI::ParseError& error) {
    const auto typed = NamesOf(Typed(app));
    const std::string about = typed.empty() ? "--help" : Cat("help ", Join(typed, " "));
    return absl::InvalidArgumentError(Cat(Explain(app, error), "\nSee: kvasir ", about));
  }
  if (all.help || std::holds_alternative<std::monostate>(invocation.command)) {
    auto text = HelpAbout(app, all.help ? all.help_about : NamesOf(Typed(app)));
    if (!text.ok()) return text.status();
    invocation.print = *std::move(text);
    return invocation;
  }
  if (absl::Status status = CheckGlobal(node_from_environment, format, &invocation.global); !status.ok()) return status;
  return invocation;
}

}  // namespace kvasir
