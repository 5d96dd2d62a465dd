// SPDX-License-Identifier: Apache-2.0
// Goal: grpc.health.v1 and reflection answer as Kubernetes and grpcurl ask. Method: their messages, written by hand,
// over gRPC's generic stub.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "store/wire/grpc_server.h"
#include "tests/store/wire_fakes.h"

namespace kvasir::testing {
namespace {

grpc::ByteBuffer Buffer(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}
std::string Text(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  std::string text;
  if (!buffer.Dump(&slices).ok()) return text;
  for (const grpc::Slice& slice : slices) text.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return text;
}
/// Field 1 of type string.
std::string Named(const std::string& name) {
  return std::string("\x0a").append(1, static_cast<char>(name.size())).append(name);
}

class Health : public ::testing::Test {
 protected:
  Health() : server_({&node_, &node_, nullptr}, {}) {
    channel_ = grpc::CreateChannel(*server_.Start(), grpc::InsecureChannelCredentials());
  }
  /// The serving status of a service: 1 serving, 2 not serving; -code when the call failed.
  int Check(const std::string& service) {
    grpc::GenericStub stub(channel_);
    grpc::ClientContext context;
    grpc::CompletionQueue queue;
    grpc::ByteBuffer reply;
    grpc::Status status;
    auto call = stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", Buffer(Named(service)), &queue);
    call->StartCall();
    call->Finish(&reply, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    if (!status.ok()) return -status.error_code();
    const std::string text = Text(reply);
    return text.size() == 2 && text[0] == 8 ? text[1] : 0;
  }
  FakeNode node_;
  GrpcServer server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(Health, AliveThenReadyThenNot) {
  EXPECT_EQ(Check("liveness"), 1);
  EXPECT_EQ(Check("readiness"), 2);
  EXPECT_EQ(Check(""), 2);
  server_.SetHealth(GrpcServer::kReadiness, true);
  EXPECT_EQ(Check("readiness"), 1);
  EXPECT_EQ(Check(""), 1);
  server_.SetHealth(GrpcServer::kReadiness, false);
  EXPECT_EQ(Check("readiness"), 2);
  EXPECT_EQ(Check("liveness"), 1);
  EXPECT_EQ(Check("nonsense"), -grpc::StatusCode::NOT_FOUND);
}

TEST_F(Health, ReflectionNamesBothServices) {
  grpc::GenericStub stub(channel_);
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const auto next = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  const std::string method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
  auto stream = stub.PrepareCall(&context, method, &queue);
  stream->StartCall(nullptr);
  ASSERT_TRUE(next());
  stream->Write(Buffer("\x3a\x01*"), nullptr);  // list_services
  ASSERT_TRUE(next());
  grpc::ByteBuffer reply;
  stream->Read(&reply, nullptr);
  ASSERT_TRUE(next());
  EXPECT_NE(Text(reply).find("kvasir.v1.Store"), std::string::npos);
  EXPECT_NE(Text(reply).find("kvasir.v1.Admin"), std::string::npos);
  stream->WritesDone(nullptr);
  next();
  grpc::Status status;
  stream->Finish(&status, nullptr);
  next();
  EXPECT_TRUE(status.ok()) << status.error_message();
}

}  // namespace
}  // namespace kvasir::testing
