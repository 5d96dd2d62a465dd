// SPDX-License-Identifier: Apache-2.0
// Messages from strangers: every field damaged in turn, every truncation, every limit, random bytes. And a live tcp
// listener that is sent such things goes on serving everybody else.
#include "transport/backends/tcp_messages.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <random>

#include "tests/support/seed.h"
#include "tests/transport/pair.h"

namespace kvasir {
namespace {

using testing::Pair;

std::string Frame(MessageType type, uint64_t id, std::string_view body) {
  std::string frame;
  AppendFrame(frame, type, id, body);
  return frame;
}

HelloBody GoodHello() {
  return {.magic = kHelloMagic, .version_min = kVersionMin, .version_max = kVersionMax, .credential_bytes = 0,
          .incarnation = 7, .peer_incarnation = 0};
}

std::string HelloFrame(const HelloBody& hello, std::string_view credentials) {
  std::string frame;
  AppendHello(frame, hello, credentials);
  return frame;
}

/// One good message of each type.
std::vector<std::string> GoodFrames() {
  HelloBody hello = GoodHello();
  hello.credential_bytes = 6;
  const WelcomeBody welcome{kHelloMagic, kVersionMax, 0, 0, 9};
  const WirePiece pieces[] = {{1, 2, 3}, {4, 5, 0}};
  const uint64_t grants[] = {1, 2, 3};
  const ResolvedGrant resolved[] = {{1, 2, 3, 4, 1}, {1, 0, 0, 0, 0}};
  return {
      HelloFrame(hello, "tenant"),
      Frame(MessageType::kWelcome, 0, AsBytes(welcome)),
      Frame(MessageType::kPullRequest, 1, AsBytes(std::span<const WirePiece>(pieces))),
      Frame(MessageType::kPullData, 1, {}),
      Frame(MessageType::kPullError, 1, AsBytes(ErrorBody{7, 0})),
      Frame(MessageType::kClose, 0, {}),
      Frame(MessageType::kResolve, 1, AsBytes(std::span<const uint64_t>(grants))),
      Frame(MessageType::kResolved, 1, AsBytes(std::span<const ResolvedGrant>(resolved))),
      Frame(MessageType::kRegion, 1, AsBytes(RegionBody{4096})),
      Frame(MessageType::kRegionGone, 1, {}),
      Frame(MessageType::kRevoked, 1, {}),
  };
}

bool Refused(const std::string& bytes) {
  Message message;
  const auto taken = ParseMessage(bytes, message);
  return !taken.ok() && taken.status().code() == absl::StatusCode::kInvalidArgument;
}

/// `frame` with one value of `Field` at `offset`.
template <typename Field>
std::string With(std::string frame, size_t offset, Field value) {
  std::memcpy(frame.data() + offset, &value, sizeof value);
  return frame;
}

TEST(TcpMessagesTest, EveryGoodMessageParsesWholeAndNotBefore) {
  for (const std::string& frame : GoodFrames()) {
    Message message;
    for (size_t length = 0; length < frame.size(); ++length) {
      const auto taken = ParseMessage(std::string_view(frame).substr(0, length), message);
      ASSERT_TRUE(taken.ok()) << taken.status();
      EXPECT_EQ(*taken, 0u);
    }
    const auto taken = ParseMessage(frame + "following", message);
    ASSERT_TRUE(taken.ok()) << taken.status();
    EXPECT_EQ(*taken, frame.size());
  }
}

TEST(TcpMessagesTest, EveryHeaderFieldDamaged) {
  for (const std::string& frame : GoodFrames()) {
    EXPECT_TRUE(Refused(With<uint8_t>(frame, offsetof(FrameHeader, type), 0)));
    EXPECT_TRUE(Refused(With<uint8_t>(frame, offsetof(FrameHeader, type), kTypeMax + 1)));
    EXPECT_TRUE(Refused(With<uint32_t>(frame, offsetof(FrameHeader, body_bytes), UINT32_MAX)));
    EXPECT_TRUE(Refused(With<uint32_t>(frame, offsetof(FrameHeader, body_bytes), kRequestBytesMax + 1)));
    for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(Refused(With<uint8_t>(frame, offsetof(FrameHeader, zero) + i, 1)));
    FrameHeader header;
    std::memcpy(&header, frame.data(), sizeof header);
    EXPECT_TRUE(Refused(With<uint64_t>(frame, offsetof(FrameHeader, id), header.id == 0 ? 1 : 0)));
  }
}

TEST(TcpMessagesTest, EveryBodyFieldDamaged) {
  constexpr size_t kBody = sizeof(FrameHeader);
  const std::vector<std::string> good = GoodFrames();
  const std::string& hello = good[0];
  EXPECT_TRUE(Refused(With<uint64_t>(hello, kBody + offsetof(HelloBody, magic), 1)));
  EXPECT_TRUE(Refused(With<uint16_t>(hello, kBody + offsetof(HelloBody, version_min), 99)));
  EXPECT_TRUE(Refused(With<uint32_t>(hello, kBody + offsetof(HelloBody, credential_bytes), 5)));
  EXPECT_TRUE(Refused(With<uint32_t>(hello, kBody + offsetof(HelloBody, credential_bytes), UINT32_MAX)));
  EXPECT_TRUE(Refused(With<uint64_t>(hello, kBody + offsetof(HelloBody, incarnation), 0)));
  const std::string& welcome = good[1];
  EXPECT_TRUE(Refused(With<uint64_t>(welcome, kBody + offsetof(WelcomeBody, magic), 1)));
  EXPECT_TRUE(Refused(With<uint16_t>(welcome, kBody + offsetof(WelcomeBody, version), 0)));
  EXPECT_TRUE(Refused(With<uint16_t>(welcome, kBody + offsetof(WelcomeBody, version), kVersionMax + 1)));
  EXPECT_TRUE(Refused(With<uint16_t>(welcome, kBody + offsetof(WelcomeBody, status), 999)));
  EXPECT_TRUE(Refused(With<uint32_t>(welcome, kBody + offsetof(WelcomeBody, zero), 1)));
  EXPECT_TRUE(Refused(With<uint64_t>(welcome, kBody + offsetof(WelcomeBody, incarnation), 0)));
  const std::string& request = good[2];
  EXPECT_TRUE(Refused(With<uint64_t>(request, kBody + offsetof(WirePiece, length), kRequestBytesMax + 1)));
  EXPECT_TRUE(Refused(With<uint64_t>(request, kBody + sizeof(WirePiece) + offsetof(WirePiece, length), UINT64_MAX)));
  EXPECT_TRUE(Refused(With<uint32_t>(good[4], kBody + offsetof(ErrorBody, status), 0)));
  EXPECT_TRUE(Refused(With<uint32_t>(good[4], kBody + offsetof(ErrorBody, status), 200)));
  EXPECT_TRUE(Refused(With<uint32_t>(good[4], kBody + offsetof(ErrorBody, zero), 1)));
  EXPECT_TRUE(Refused(With<uint32_t>(good[7], kBody + offsetof(ResolvedGrant, kind), 3)));
  EXPECT_TRUE(Refused(With<uint32_t>(good[7], kBody + offsetof(ResolvedGrant, region), 0)));
  EXPECT_TRUE(Refused(With<uint64_t>(good[8], kBody, 0)));
  EXPECT_TRUE(Refused(With<uint64_t>(good[8], offsetof(FrameHeader, id), uint64_t{1} << 32)));
}

TEST(TcpMessagesTest, CountsBeyondTheirLimits) {
  const std::vector<WirePiece> pieces(kPiecesPerRequestMax + 1, WirePiece{1, 0, 0});
  std::string frame(sizeof(FrameHeader), '\0');
  const FrameHeader header{static_cast<uint32_t>(pieces.size() * sizeof(WirePiece)), 3, {}, 1};
  std::memcpy(frame.data(), &header, sizeof header);
  frame.append(AsBytes(std::span<const WirePiece>(pieces)));
  EXPECT_TRUE(Refused(frame));
  HelloBody hello = GoodHello();
  hello.credential_bytes = kCredentialsBytesMax + 1;
  EXPECT_TRUE(Refused(HelloFrame(hello, std::string(kCredentialsBytesMax + 1, 'x'))));
}

TEST(TcpMessagesTest, RandomDamageNeverReadsBeyondTheBytes) {
  auto random = testing::Rng(7);
  const std::vector<std::string> good = GoodFrames();
  for (int i = 0; i < 20000; ++i) {
    std::string frame = good[random() % good.size()];
    for (uint64_t damages = 1 + random() % 3; damages > 0; --damages) {
      frame[random() % frame.size()] = static_cast<char>(random());
    }
    const auto exact = std::make_unique<char[]>(frame.size());  // AddressSanitizer guards its end
    std::memcpy(exact.get(), frame.data(), frame.size());
    Message message;
    const auto taken = ParseMessage(std::string_view(exact.get(), frame.size()), message);
    EXPECT_LE(taken.value_or(0), frame.size());
  }
}

/// A stranger's plain socket to a pair's listener.
class Stranger {
 public:
  explicit Stranger(Pair& pair) : pair_(pair), fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<uint16_t>(std::stoi(pair.address.substr(pair.address.rfind(':') + 1))));
    EXPECT_EQ(connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  ~Stranger() { close(fd_); }
  void Send(const std::string& bytes) { (void)!send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL); }
  /// Steps until the listener has hung up.
  bool HungUp() {
    return pair_.Step([this] {
      char bytes[4096];
      const ssize_t got = recv(fd_, bytes, sizeof bytes, MSG_DONTWAIT);
      return got == 0 || (got < 0 && errno != EAGAIN);
    });
  }

 private:
  Pair& pair_;
  const int fd_;
};

class TcpStrangerTest : public ::testing::Test {
 protected:
  void ExpectOthersUnharmed() {
    std::vector<std::byte> local(1000);
    EXPECT_TRUE(pair_.PullAll({{std::span(local), remote_}}).result.status.ok());
  }
  std::string GoodHelloFrame() {
    HelloBody hello = GoodHello();
    hello.credential_bytes = static_cast<uint32_t>(std::strlen(Pair::kCredentials));
    return HelloFrame(hello, Pair::kCredentials);
  }
  Pair pair_{{"tcp", "tcp", true}};
  RemoteSpan remote_ = pair_.region->Grant(Pair::kScope, 0, 1000);
};

TEST_F(TcpStrangerTest, GarbageAndMessagesOutOfTurnEndTheirConnectionOnly) {
  const std::vector<std::string> good = GoodFrames();
  std::vector<std::string> openings = {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", std::string(100, '\xff')};
  for (size_t i = 1; i < good.size(); ++i) openings.push_back(good[i]);  // all but a Hello are out of turn
  for (const std::string& opening : openings) {
    Stranger stranger(pair_);
    stranger.Send(opening);
    EXPECT_TRUE(stranger.HungUp());
  }
  ExpectOthersUnharmed();
}

TEST_F(TcpStrangerTest, AfterAGoodHelloEveryWrongMessageClosesWithAReason) {
  const std::vector<std::string> good = GoodFrames();
  for (const std::string& wrong : {good[0], good[1], good[3], good[4], good[6], good[7], good[8], good[9], good[10],
                                   With<uint8_t>(good[2], offsetof(FrameHeader, type), 99)}) {
    auto keep = std::move(pair_.server);
    Stranger stranger(pair_);
    stranger.Send(GoodHelloFrame());
    EXPECT_TRUE(pair_.Step([&] { return pair_.server != nullptr; }));
    absl::Status reason;
    pair_.server->OnClosed([&](absl::Status why) { reason = why; });
    stranger.Send(wrong);
    EXPECT_TRUE(pair_.Step([&] { return !reason.ok(); }));
    EXPECT_EQ(reason.code(), absl::StatusCode::kInvalidArgument) << reason;
    EXPECT_TRUE(stranger.HungUp());
    pair_.server = std::move(keep);
  }
  ExpectOthersUnharmed();
}

TEST_F(TcpStrangerTest, AStrangerWhoSaysNothingIsHungUpOn) {
  Stranger stranger(pair_);
  testing::StepSome(pair_.loop);
  pair_.skipped += std::chrono::minutes(1);
  EXPECT_TRUE(stranger.HungUp());
  ExpectOthersUnharmed();
}

TEST_F(TcpStrangerTest, AFloodOfRequestsWithoutReadingIsHungUpOn) {
  auto keep = std::move(pair_.server);
  Stranger stranger(pair_);
  stranger.Send(GoodHelloFrame());
  EXPECT_TRUE(pair_.Step([&] { return pair_.server != nullptr; }));
  const RemoteSpan large = pair_.region->Grant(Pair::kScope, 0, kRequestBytesMax);
  const WirePiece piece{large.grant, 0, kRequestBytesMax};
  absl::Status reason;
  pair_.server->OnClosed([&](absl::Status why) { reason = why; });
  for (uint32_t i = 0; i < kRequestsQueuedMax + 64; ++i) {
    stranger.Send(Frame(MessageType::kPullRequest, i + 1, AsBytes(piece)));
    pair_.loop.RunOnce(Duration::zero());
  }
  EXPECT_TRUE(pair_.Step([&] { return !reason.ok(); }));
  EXPECT_EQ(reason.code(), absl::StatusCode::kInvalidArgument) << reason;
  pair_.server = std::move(keep);
  ExpectOthersUnharmed();
}

}  // namespace
}  // namespace kvasir
