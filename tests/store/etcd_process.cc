// SPDX-License-Identifier: Apache-2.0
// etcd-server as a child, and its JSON gateway over a plain socket: no library of ours is in between.
#include "tests/store/etcd_process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "tests/support/free_ports.h"

namespace kvasir::testing {
namespace {

constexpr const char* kProgram = "/usr/bin/etcd";
constexpr int kAnswerMs = 10'000;  ///< of one request to the gateway
constexpr int kLogBytes = 1 << 20;

std::string Base64(const std::string& bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j) group = group << 8 | (i + j < bytes.size() ? static_cast<uint8_t>(bytes[i + j]) : 0);
    for (size_t j = 0; j < 4; ++j) out += i + j > bytes.size() ? '=' : kDigits[group >> (18 - 6 * j) & 63];
  }
  return out;
}

std::string FromBase64(const std::string& text) {
  std::string out;
  uint32_t group = 0;
  int bits = 0;
  for (const char c : text) {
    const int digit = c >= 'A' && c <= 'Z'   ? c - 'A'
                      : c >= 'a' && c <= 'z' ? c - 'a' + 26
                      : c >= '0' && c <= '9' ? c - '0' + 52
                      : c == '+'             ? 62
                      : c == '/'             ? 63
                                             : -1;
    if (digit < 0) break;
    group = group << 6 | static_cast<uint32_t>(digit);
    bits += 6;
    if (bits >= 8) out += static_cast<char>(group >> (bits -= 8) & 0xff);
  }
  return out;
}

/// Connected, or -1.
int Dial(const std::string& address) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(address.find(':') + 1))));
  if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0) return fd;
  close(fd);
  return -1;
}

}  // namespace

std::string EtcdCluster::Missing() {
  return access(kProgram, X_OK) == 0 ? "" : "etcd-server is not installed (apt-get install etcd-server)";
}

EtcdCluster::EtcdCluster(size_t members, Talk talk) : talk_(talk) {
  char name[] = "/tmp/kvasir-etcd-XXXXXX";
  directory_ = mkdtemp(name);
  if (talk_ == Talk::kTls) MakeCertificates();
  const std::vector<int> ports = FreePorts(2 * members);
  for (size_t i = 0; i < members; ++i) {
    members_.push_back({"127.0.0.1:" + std::to_string(ports[2 * i]), "127.0.0.1:" + std::to_string(ports[2 * i + 1])});
  }
  for (size_t i = 0; i < members; ++i) Start(i);
  for (size_t i = 0; i < members; ++i) Serves(i);
}

EtcdCluster::~EtcdCluster() {
  for (size_t i = 0; i < members_.size(); ++i) Kill(i);
  std::filesystem::remove_all(directory_);
}

std::vector<std::string> EtcdCluster::endpoints() const {
  std::vector<std::string> all;
  for (const Member& member : members_) all.push_back(member.client);
  return all;
}

std::string EtcdCluster::urls() const {
  std::string all;
  for (const Member& member : members_) all.append(all.empty() ? "" : ",").append("http://").append(member.client);
  return all;
}

/// One authority, a server and a client it vouches for, and a stranger that vouches for itself.
void EtcdCluster::MakeCertificates() const {
  const std::string script = "cd " + directory_ + R"( && exec 2>/dev/null
    new="openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    $new -x509 -keyout ca.key -out ca.pem -subj /CN=authority
    $new -x509 -keyout stranger.key -out stranger.pem -subj /CN=stranger
    for who in server client; do
      $new -keyout $who.key -out $who.csr -subj /CN=$who
      printf 'subjectAltName=IP:127.0.0.1
extendedKeyUsage=serverAuth,clientAuth
' > $who.ext
      openssl x509 -req -in $who.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile $who.ext -out $who.pem
    done)";
  if (std::system(script.c_str()) != 0) std::fprintf(stderr, "openssl made no certificates\n");
}

std::string EtcdCluster::Pem(const std::string& file) const {
  std::ifstream in(directory_ + "/" + file);
  return {std::istreambuf_iterator<char>(in), {}};
}

void EtcdCluster::Start(size_t member) {
  std::string cluster;
  for (size_t i = 0; i < members_.size(); ++i) {
    cluster.append(i == 0 ? "" : ",").append("m").append(std::to_string(i)).append("=http://").append(members_[i].peer);
  }
  const std::string name = std::string("m").append(std::to_string(member));
  const std::string client = std::string(talk_ == Talk::kTls ? "https://" : "http://").append(members_[member].client);
  const std::string peer = std::string("http://").append(members_[member].peer);
  std::vector<std::string> words = {kProgram, "--name", name, "--data-dir", directory_ + "/" + name, "--listen-client-urls", client,
                                          "--advertise-client-urls", client, "--listen-peer-urls", peer, "--initial-advertise-peer-urls",
                                          peer, "--initial-cluster", cluster, "--initial-cluster-state", "new", "--heartbeat-interval", "50",
                                          "--election-timeout", "500", "--unsafe-no-fsync", "--logger", "zap"};
  if (talk_ == Talk::kTls) {
    for (const auto& [flag, file] : {std::pair("--cert-file", "server.pem"), std::pair("--key-file", "server.key"), std::pair("--trusted-ca-file", "ca.pem")}) {
      words.insert(words.end(), {flag, directory_ + "/" + file});
    }
    words.push_back("--client-cert-auth");
  }
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  int log[2];
  if (pipe2(log, O_CLOEXEC) != 0 || fcntl(log[1], F_SETPIPE_SZ, kLogBytes) < 0) std::perror("pipe2");
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(log[1], STDOUT_FILENO);
    dup2(log[1], STDERR_FILENO);
    execv(argv[0], argv.data());
    _exit(127);
  }
  close(log[1]);
  members_[member].pid = pid;
  members_[member].log = log[0];
}

void EtcdCluster::Signal(size_t member, int signal) const { kill(members_[member].pid, signal); }

void EtcdCluster::Kill(size_t member) {
  if (members_[member].pid <= 0) return;
  kill(members_[member].pid, SIGKILL);
  waitpid(members_[member].pid, nullptr, 0);
  close(members_[member].log);
  members_[member].pid = -1;
}

void EtcdCluster::Wipe(size_t member) {
  std::filesystem::remove_all(std::string(directory_).append("/m").append(std::to_string(member)));
}

std::string EtcdCluster::Post(size_t member, const std::string& path, const std::string& json) const {
  const int fd = Dial(members_[member].client);
  if (fd < 0) return "";
  const std::string request = "POST " + path + " HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: " +
                              std::to_string(json.size()) + "\r\n\r\n" + json;
  std::string answer;
  pollfd readable = {fd, POLLIN, 0};
  char buffer[65536];
  ssize_t got = send(fd, request.data(), request.size(), MSG_NOSIGNAL);
  while (got > 0 && poll(&readable, 1, kAnswerMs) > 0 && (got = read(fd, buffer, sizeof buffer)) > 0) answer.append(buffer, got);
  close(fd);
  const size_t body = answer.find("\r\n\r\n");
  return body == answer.npos || answer.find(" 200 ") > answer.find("\r\n") ? "" : answer.substr(body + 4);
}

bool EtcdCluster::Serves(size_t member, std::chrono::milliseconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  std::string said;
  char letter = 0;
  pollfd readable = {members_[member].log, POLLIN, 0};
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    if (left.count() <= 0 || poll(&readable, 1, static_cast<int>(left.count())) <= 0) break;
    if (read(members_[member].log, &letter, 1) != 1) break;
    said += letter;
    if (letter == '\n' && said.find("serving client traffic", said.rfind('\n', said.size() - 2) + 1) != said.npos) return true;
  }
  std::fprintf(stderr, "etcd %zu does not serve; it said:\n%s\n", member, said.c_str());
  return false;
}

size_t EtcdCluster::Leader() const {
  for (size_t i = 0; i < members_.size(); ++i) {
    const auto status = nlohmann::json::parse(Post(i, "/v3/maintenance/status", "{}"), nullptr, false);
    if (status.is_object() && status.value("leader", "0") == status["header"].value("member_id", "")) return i;
  }
  return 0;
}

std::string EtcdCluster::Get(const std::string& key) const {
  for (size_t i = 0; i < members_.size(); ++i) {
    const auto answer = nlohmann::json::parse(Post(i, "/v3/kv/range", nlohmann::json{{"key", Base64(key)}}.dump()), nullptr, false);
    if (!answer.is_object()) continue;
    return answer.contains("kvs") ? FromBase64(answer["kvs"][0].value("value", "")) : "";
  }
  return "";
}

void EtcdCluster::Put(const std::string& key, const std::string& value) const {
  Post(0, "/v3/kv/put", nlohmann::json{{"key", Base64(key)}, {"value", Base64(value)}}.dump());
}

void EtcdCluster::Delete(const std::string& key) const {
  Post(0, "/v3/kv/deleterange", nlohmann::json{{"key", Base64(key)}}.dump());
}

void EtcdCluster::Compact() const {
  const auto status = nlohmann::json::parse(Post(0, "/v3/kv/range", nlohmann::json{{"key", Base64("/ping")}}.dump()));
  const std::string revision = status["header"]["revision"];
  Post(0, "/v3/kv/compaction", nlohmann::json{{"revision", revision}, {"physical", true}}.dump());
}

}  // namespace kvasir::testing
