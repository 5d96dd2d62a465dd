// SPDX-License-Identifier: Apache-2.0
// Goal: a directory remembers who the node is and where it belongs, refuses another cluster, and damage is never
// believed. Method: real files; every byte of the view flipped and cut.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "store/membership/state_directory.h"

namespace kvasir::testing {
namespace {

class StateDirectoryTest : public ::testing::Test {
 protected:
  StateDirectoryTest() {
    char name[] = "/tmp/kvasir-state-XXXXXX";
    root_ = mkdtemp(name);
  }
  ~StateDirectoryTest() override { std::filesystem::remove_all(root_); }
  std::unique_ptr<StateDirectory> Open() {
    auto directory = StateDirectory::Open(root_ + "/state");
    EXPECT_TRUE(directory.ok()) << directory.status();
    return directory.ok() ? *std::move(directory) : nullptr;
  }
  std::string Read(const std::string& name) {
    std::ifstream file(root_ + "/state/" + name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  void Write(const std::string& name, const std::string& bytes) {
    std::ofstream(root_ + "/state/" + name, std::ios::binary) << bytes;
  }
  std::string root_;
};

TEST_F(StateDirectoryTest, RemembersOverRestarts) {
  std::string identity;
  {
    const auto directory = Open();
    identity = directory->node_identity();
    EXPECT_EQ(identity.size(), 36u);
    EXPECT_EQ(directory->cluster_id(), "");
    EXPECT_TRUE(directory->Claim("cluster-1").ok());
  }
  const auto directory = Open();
  EXPECT_EQ(directory->node_identity(), identity);
  EXPECT_EQ(directory->cluster_id(), "cluster-1");
  EXPECT_TRUE(directory->Claim("cluster-1").ok());
}

TEST_F(StateDirectoryTest, AnotherClusterIsRefusedNamingBoth) {
  const auto directory = Open();
  ASSERT_TRUE(directory->Claim("cluster-1").ok());
  const absl::Status refused = directory->Claim("cluster-2");
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  for (const char* part : {"cluster-1", "cluster-2", "remove the file identity"}) {
    EXPECT_NE(std::string(refused.message()).find(part), std::string::npos) << refused;
  }
  EXPECT_EQ(directory->cluster_id(), "cluster-1");
}

TEST_F(StateDirectoryTest, UnnamedClusterMayGetAName) {
  const auto directory = Open();
  ASSERT_TRUE(directory->Claim(StateDirectory::kUnnamedCluster).ok());
  EXPECT_TRUE(directory->Claim("static:prod").ok());
  EXPECT_FALSE(directory->Claim(StateDirectory::kUnnamedCluster).ok()) << "but never lose it";
}

TEST_F(StateDirectoryTest, OneProcessAtATime) {
  auto first = Open();
  const auto second = StateDirectory::Open(root_ + "/state");
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(std::string(second.status().message()).find("in use by another process"), std::string::npos);
  first.reset();
  EXPECT_TRUE(StateDirectory::Open(root_ + "/state").ok());
}

TEST_F(StateDirectoryTest, PathsThatCannotBe) {
  std::ofstream(root_ + "/file") << "x";
  EXPECT_EQ(StateDirectory::Open(root_ + "/file").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(StateDirectory::Open("/proc/kvasir").ok());
}

TEST_F(StateDirectoryTest, DamagedIdentityIsNotGuessed) {
  Open();
  for (const char* damaged :
       {"{", "[]", R"({"format":2,"node":"n","cluster":""})", R"({"format":1,"cluster":""})", "garbage"}) {
    Write("identity", damaged);
    const auto directory = StateDirectory::Open(root_ + "/state");
    EXPECT_EQ(directory.status().code(), absl::StatusCode::kFailedPrecondition) << damaged;
    EXPECT_EQ(Read("identity"), damaged) << "left as it is";
  }
}

TEST_F(StateDirectoryTest, ViewComesBackAndDamageIsNeverBelieved) {
  const Membership view{
      9, {{"a", "h:1", 1, 5, "", MemberState::kServing, 7}, {"b", "h:2", 2, 6, "z", MemberState::kJoining, 9}}};
  const auto directory = Open();
  std::string note;
  EXPECT_FALSE(directory->LoadView(&note).has_value());
  EXPECT_EQ(note, "") << "there is none yet";
  ASSERT_TRUE(directory->SaveView(view).ok());
  EXPECT_EQ(directory->LoadView(&note), view);
  const std::string whole = Read("view");
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    Write("view", damaged);
    note.clear();
    EXPECT_FALSE(directory->LoadView(&note).has_value()) << i;
    EXPECT_NE(note.find("is not used"), std::string::npos) << i;
    Write("view", whole.substr(0, i));
    EXPECT_FALSE(directory->LoadView(&note).has_value()) << i;
  }
  ASSERT_TRUE(directory->SaveView(view).ok());
  EXPECT_EQ(directory->LoadView(&note), view);
}

TEST_F(StateDirectoryTest, AViewThatCannotBeWrittenLeavesTheOldOne) {
  const Membership view{9, {{"a", "h:1", 1, 5, "", MemberState::kServing, 7}}};
  const auto directory = Open();
  ASSERT_TRUE(directory->SaveView(view).ok());
  ASSERT_EQ(mkdir((root_ + "/state/view.new").c_str(), 0755), 0);  // what is written beside it has no place
  EXPECT_FALSE(directory->SaveView({10, view.members}).ok());
  std::string note;
  EXPECT_EQ(directory->LoadView(&note), view);
}

TEST(Uuid, NoTwoAreAlike) {
  EXPECT_NE(NewUuid(), NewUuid());
  EXPECT_EQ(NewUuid()[14], '4');
}

}  // namespace
}  // namespace kvasir::testing
