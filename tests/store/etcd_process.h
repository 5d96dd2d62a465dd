// SPDX-License-Identifier: Apache-2.0
// Real etcd-servers on loopback, with their data in a directory that goes with them.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

namespace kvasir::testing {

/// An etcd of one or three members. Nothing is left when it is destroyed.
class EtcdCluster {
 public:
  /// "" where etcd-server is installed, else why a test must be skipped.
  static std::string Missing();

  enum class Talk { kPlain, kTls };  ///< to clients; with kTls each must show a certificate, and Post and what needs it do not work
  /// Starts the members and waits until all serve. REQUIRES: Missing() is empty; with kTls openssl is there.
  explicit EtcdCluster(size_t members, Talk talk = Talk::kPlain);
  ~EtcdCluster();
  EtcdCluster(const EtcdCluster&) = delete;
  EtcdCluster& operator=(const EtcdCluster&) = delete;

  size_t size() const { return members_.size(); }
  const std::string& endpoint(size_t member) const { return members_[member].client; }
  std::vector<std::string> endpoints() const;
  /// "http://127.0.0.1:1234,..." as a flag has it.
  std::string urls() const;

  /// "ca", "server", "client" and "stranger" (vouched for by nobody we know), ".pem" and ".key" of each: with kTls only.
  std::string Pem(const std::string& file) const;

  void Signal(size_t member, int signal) const;
  void Kill(size_t member);   ///< kill -9
  void Start(size_t member);  ///< again, on its data and ports
  void Wipe(size_t member);   ///< its data; while it is down
  /// Waits until a member that was started serves, which takes a majority; whether it does within `limit`.
  bool Serves(size_t member, std::chrono::milliseconds limit = std::chrono::seconds(60));
  /// The member that leads now, as etcd says.
  size_t Leader() const;
  /// Sends one request of etcd's JSON gateway ("/v3/kv/range", ...); the answer's body, "" when none came.
  std::string Post(size_t member, const std::string& path, const std::string& json) const;
  /// A key's value through the gateway; "" when there is none.
  std::string Get(const std::string& key) const;
  void Put(const std::string& key, const std::string& value) const;
  void Delete(const std::string& key) const;
  void Compact() const;  ///< all that is past

 private:
  struct Member {
    std::string client, peer;  ///< host:port
    pid_t pid = -1;
    int log = -1;  ///< its standard error; a pipe wide enough for what a test makes it say
  };
  void MakeCertificates() const;
  const Talk talk_;
  std::string directory_;
  std::vector<Member> members_;
};

}  // namespace kvasir::testing
