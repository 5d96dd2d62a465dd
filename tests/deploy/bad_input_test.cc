// SPDX-License-Identifier: Apache-2.0
// Goal: whatever is wrong with what kvasird and kvasir are given, they end with the right status, name the cause and
// the next step, and touch nothing. Method: the real programs, status and message compared.
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>

#include "tests/deploy/process.h"

namespace kvasir::testing {
namespace {

void ExpectRefusal(const Ended& ended, int status, const std::string& says) {
  EXPECT_EQ(ended.status, status) << ended.err;
  EXPECT_NE(ended.err.find(says), std::string::npos) << "it says: " << ended.err << "not: " << says;
  EXPECT_EQ(ended.out, "");
}

struct Case {
  std::vector<std::string> arguments;
  int status;
  const char* says;
};

TEST(Kvasird, BadFlagsEndWithTwo) {
  const Case kCases[] = {
      {{"--dramm", "2GiB"}, 2, "kvasird: unknown flag --dramm; did you mean --dram?\nSee: kvasird --help"},
      {{"--dram", "2x"}, 2, "--dram: '2x' is not a size. Write a number and a unit, like 2GiB"},
      {{"--dram", "1KiB"}, 2, "--dram 1.0 KiB is too little to hold blocks. Give at least 16.0 MiB"},
      {{"--dram", "999TiB"}, 2, "--dram 999.0 TiB (1098412116148224 bytes) is more than the"},
      {{"--lease", "5"}, 2, "--lease: '5' is not a duration"},
      {{"--shards", "0"}, 2, "--shards: '0' is not a whole number from 1 to 256"},
      {{"--listen", "7070"}, 2, "--listen: '7070' is not an address: it has no port. Write HOST:PORT"},
      {{"--listen", "no.such.host.invalid:1"}, 2, "the host no.such.host.invalid is unknown"},
      {{"--listen", "203.0.113.77:0"}, 2, "203.0.113.77 is no address of this machine"},
      {{"--listen", "0.0.0.0:0"}, 2, "clients cannot dial 0.0.0.0 for data. Add --data-host"},
      {{"--transports", "tcp,carrier-pigeon"}, 2, "--transports: no \"carrier-pigeon\" in this build; there are"},
      {{"--dev", "--listen", "10.0.0.1:7070"}, 2, "--dev serves this machine only"},
      {{"--http", "7071"}, 2, "--http: '7071' is not an address: it has no port. Write HOST:PORT, like 127.0.0.1:7070, or off"},
      {{"--http", "203.0.113.77:0"}, 2, "203.0.113.77 is no address of this machine (ip addr shows them). Correct --http"},
      {{"--dev", "--http", "0.0.0.0:0"}, 2, "--dev serves this machine only, but --http shall listen at 0.0.0.0:0"},
      {{"--dram", "automatic"}, 2, "--dram: 'automatic' is not a size"},
      {{"--ssd-size", "1GiB"}, 2, "--ssd-size without --ssd: name the directory with --ssd DIR"},
      {{"--log-level", "loud"}, 2, "--log-level: 'loud' is not a log level. Write info, warning or error"},
      {{"--gather-rate", "1KiB"}, 2, "--gather-rate 1.0 KiB a second would take over nothing. Give at least 1.0 MiB"},
      {{"--hot-reads", "often"}, 2, "--hot-reads: 'often' is not a whole number"},
      {{"--members", "/no/such/file"}, 2, "--members: cannot read /no/such/file: No such file or directory"},
      {{"--members", "static:/no/such/file"}, 2, "--members: cannot read /no/such/file: No such file or directory"},
      {{"--members", "static:"}, 2, "--members: 'static:' names no file. Write static:FILE or etcd:URL[,URL]"},
      {{"--members", ""}, 2, "--members: '' names no file. Write static:FILE or etcd:URL[,URL]"},
      {{"--members", "etcd:"}, 2, "--members: 'etcd:' names no URL. Write etcd:URL[,URL], like etcd:http://"},
      {{"--members", "etcd:,,"}, 2, "names no URL"},
      {{"--members", "etcd:10.0.0.1"}, 2, "'10.0.0.1' is not an address of etcd: '10.0.0.1' is not an address: it has no port"},
      {{"--members", "etcd:https://10.0.0.1:2379"}, 2, "the other nodes must be able to dial this one: say where with --listen HOST:PORT"},
      {{"--members", "etcd:https://10.0.0.1:2379,http://10.0.0.2:2379"}, 2, "'http://10.0.0.2:2379' differs from the one before in http or https"},
      {{"--members", "etcd:http://10.0.0.1:2379", "--etcd-ca", "/ca.pem"}, 2, "--etcd-ca is for an etcd that speaks TLS: write --members etcd:https://HOST:PORT"},
      {{"--members", "etcd:https://10.0.0.1:2379", "--etcd-ca", "/no/such/ca.pem"}, 2, "--etcd-ca: cannot read /no/such/ca.pem: No such file or directory"},
      {{"--members", "etcd:https://10.0.0.1:2379", "--etcd-ca", "/etc/passwd"}, 2, "--etcd-ca: /etc/passwd holds no CERTIFICATE in PEM (-----BEGIN ...)"},
      {{"--members", "etcd:https://10.0.0.1:2379", "--etcd-key", "/etc/passwd"}, 2, "--etcd-cert and --etcd-key belong together: give both, or neither"},
      {{"--members", "etcd:ftp://10.0.0.1:2379"}, 2, "is no http or https URL"},
      {{"--members", "etcd:http://10.0.0.1:2379/v3"}, 2, "has a path, etcd has none"},
      {{"--members", "etcd:http://10.0.0.1:0"}, 2, "has port 0"},
      {{"--members", "etcd:10.0.0.1:1,http://10.0.0.1:1/"}, 2, "'http://10.0.0.1:1/' is there twice"},
      {{"--members", "etcd:10.0.0.1:2379"}, 2, "the other nodes must be able to dial this one: say where with --listen HOST:PORT"},
      {{"--members", "etcd:10.0.0.1:2379", "--listen", "0.0.0.0:7070", "--data-host", "127.0.0.1"}, 2,
       "others cannot dial 0.0.0.0:7070. Add --advertise HOST:PORT with this machine's address"},
      {{"--members", "etcd:10.0.0.1:2379", "--listen", "127.0.0.1:0", "--advertise", "0.0.0.0:1", "--data-host", "127.0.0.1"}, 2,
       "others cannot dial 0.0.0.0:1. Add --advertise"},
      {{"--members", "etcd:10.0.0.1:2379", "--listen", "127.0.0.1:0", "--advertise", "7070"}, 2, "--advertise: '7070' is not an address"},
      {{"--members", "etcd:10.0.0.1:2379", "--listen", "127.0.0.1:0", "--cluster", "a/b"}, 2, "--cluster 'a/b' must have 1 to 64 letters"},
      {{"--members", "etcd:10.0.0.1:2379", "--listen", "127.0.0.1:0", "--id", "a b"}, 2, "--id 'a b' must have 1 to 128 letters"},
      {{"--members", "etcd:10.0.0.1:2379", "--listen", "127.0.0.1:0", "--etcd-ttl", "1s"}, 2, "--etcd-ttl must be whole seconds, from 2s to 10m"},
      {{"--members", "etcd:10.0.0.1:2379", "--listen", "127.0.0.1:0", "--etcd-ttl", "2500ms"}, 2, "--etcd-ttl must be whole seconds"},
      {{"--cluster", "prod"}, 2, "--cluster is for members in etcd: give --members etcd:URL, or leave it out"},
      {{"--etcd-ttl", "5s"}, 2, "--etcd-ttl is for members in etcd"},
      {{"--weight", "0"}, 2, "--weight: '0' is not a whole number from 1 to 1000000"},
      {{"serve"}, 2, "unexpected argument serve"},
  };
  for (const Case& c : kCases) {
    std::vector<std::string> words = {KVASIRD};
    words.insert(words.end(), c.arguments.begin(), c.arguments.end());
    ExpectRefusal(RunProgram(words), c.status, c.says);
  }
}

TEST(Kvasird, MemberListThatNamesItselfTwiceOrNotAtAll) {
  const Directory directory;
  directory.Write("twice.json", R"({"members":[{"id":"a","control":"x:1"},{"id":"a","control":"x:2"}]})");
  directory.Write("other.json", R"({"members":[{"id":"b","control":"x:1"}]})");
  directory.Write("shards.json", R"({"members":[{"id":"a","control":"x:1","shards":2}]})");
  const auto run = [&](const char* file, std::vector<std::string> more) {
    more.insert(more.begin(), {KVASIRD, "--id", "a", "--members", directory / file});
    return RunProgram(more);
  };
  ExpectRefusal(run("twice.json", {}), 2, "node \"a\" is there twice, as member 1 and member 2. Remove one");
  ExpectRefusal(run("other.json", {}), 2, "names only b. Add it to the list on every node");
  ExpectRefusal(run("shards.json", {"--shards", "3"}), 2, "--shards 3, but");
  for (const char* flag : {"--advertise", "--zone", "--weight"}) {
    ExpectRefusal(run("shards.json", {flag, "7"}), 2, std::string(flag) + ", but " + (directory / "shards.json") + " says that of every node");
  }
}

TEST(Kvasird, CheckFindsWhatIsWrongWithDirectories) {
  const Directory directory;
  directory.Write("file", "not a directory");
  const auto check = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {KVASIRD, "--dram", "64MiB", "--check"});
    return RunProgram(arguments);
  };
  ExpectRefusal(check({"--ssd", directory / "file"}), 2, "file is not a directory. Name a directory");
  ExpectRefusal(check({"--ssd", directory / "file/ssd"}), 2, "Not a directory. Name a directory, or one that can be made");
  ExpectRefusal(check({"--port-file", directory / "file/ports.json"}), 2, "--port-file");
}

TEST(Kvasird, PortInUseIsFoundBeforeTheDirectoryIsTouched) {
  Daemon first({});
  ASSERT_TRUE(first.serving());
  const Directory directory;
  const Ended second =
      RunProgram({KVASIRD, "--listen", first.control(), "--ssd", directory / "ssd", "--dram", "64MiB"});
  ExpectRefusal(second, 1,
                "is in use. Stop the process that has it (ss -ltnp shows it) or choose another with --listen");
  EXPECT_FALSE(std::filesystem::exists(directory / "ssd"));
  EXPECT_EQ(first.Stop(SIGTERM).status, 0);
}

TEST(Kvasird, AnHttpPortThatWasAskedForIsNotReplaced) {
  const Directory directory;
  Daemon first({"--http", "127.0.0.1:0", "--port-file", directory / "port.json"});
  ASSERT_TRUE(first.serving());
  const std::string file = ReadAll(directory / "port.json");
  const size_t at = file.find("\"http\": \"") + 9;
  const std::string http = file.substr(at, file.find('"', at) - at);
  const Ended second = RunProgram({KVASIRD, "--listen", "127.0.0.1:0", "--http", http, "--dram", "64MiB"});
  ExpectRefusal(second, 1, "is in use. Stop the process that has it (ss -ltnp shows it) or choose another with --http");
}

TEST(Kvasird, DirectoriesThatCannotBe) {
  const Directory directory;
  directory.Write("file", "not a directory");
  directory.Write("newer/FORMAT", "kvasir ssd 2\n");
  directory.Write("newer/segments/00000001.seg", "precious");
  const auto run = [&](const std::string& ssd) {
    return RunProgram({KVASIRD, "--listen", "127.0.0.1:0", "--dram", "64MiB", "--ssd", ssd});
  };
  ExpectRefusal(run(directory / "file"), 2, directory / "file");
  ExpectRefusal(run("/proc/kvasir"), 2, "/proc/kvasir");
  ExpectRefusal(run(directory / "newer"), 2, directory / "newer");
  EXPECT_EQ(ReadAll(directory / "newer/FORMAT"), "kvasir ssd 2\n");
  EXPECT_EQ(ReadAll(directory / "newer/segments/00000001.seg"), "precious");
}

TEST(Kvasird, DirectoryInUseLeavesItsOwnerAlone) {
  const Directory directory;
  Daemon owner({"--ssd", directory / "ssd", "--ssd-size", "256MiB"});
  ASSERT_TRUE(owner.serving());
  Daemon other({"--ssd", directory / "ssd", "--ssd-size", "256MiB"});
  EXPECT_FALSE(other.serving());
  ExpectRefusal(other.Stop(0), 1, directory / "ssd");
  EXPECT_EQ(RunProgram({KVASIR, "--node", owner.control(), "status"}).status, 0);
}

TEST(Kvasir, BadFlagsEndWithTwo) {
  const Case kCases[] = {
      {{"statsu"}, 2, "kvasir: there is no command statsu; did you mean status?"},
      {{"status", "--nodee", "x"}, 2, "unknown flag --nodee; did you mean --node?\nSee: kvasir help status"},
      {{"stat"}, 2, "KEY is required\nSee: kvasir help stat"},
      {{"ls", "xyz"}, 2, "'xyz' is no beginning of a key"},
      {{"status", "-o", "yaml"}, 2, "-o yaml is no format. Write -o table or -o json"},
      {{"--node", "x", "status"}, 2, "--node: 'x' is not an address: it has no port"},
      {{"bench", "--codec", "zip"}, 2, "--codec: codec spec, position 0: met 'zip'"},
      {{"bench", "--codec", "kivi3"}, 2, "--codec: no method 'kivi3'; did you mean kivi2 or kivi4? `kvasir codecs` lists all"},
      {{"codecs", "explain", "gear8"}, 2, "no method 'gear8'; did you mean gear2 or gear4? `kvasir codecs` lists all"},
      {{"bench", "--blocks", "0"}, 2, "--blocks: '0' is not a whole number from 1"},
      {{"verify", "/no/such"}, 2, "/no/such"},
      {{"inspect", "/no/such"}, 2, "cannot read /no/such: No such file or directory"},
      {{"inspect", "/etc/passwd"}, 2, "no part begins in /etc/passwd. Name a part file or one of DIR/segments/*.seg"},
      {{"help", "benhc"}, 2, "there is no command benhc; did you mean bench?"},
      {{"hash", "--namespace", "/no/such", "--passphrase", "x", "/dev/null"}, 2, "cannot read /no/such"},
  };
  for (const Case& c : kCases) {
    std::vector<std::string> words = {KVASIR};
    words.insert(words.end(), c.arguments.begin(), c.arguments.end());
    ExpectRefusal(RunProgram(words), c.status, c.says);
  }
}

TEST(Kvasir, NobodyAnswers) {
  const std::string nobody = "127.0.0.1:" + std::to_string(FreePorts(1)[0]);
  for (const char* command : {"status", "ls", "bench"}) {
    ExpectRefusal(RunProgram({KVASIR, "--node", nobody, command}), 1,
                  "no node answers at " + nobody + ": connection refused. Is kvasird running there");
  }
}

}  // namespace
}  // namespace kvasir::testing
