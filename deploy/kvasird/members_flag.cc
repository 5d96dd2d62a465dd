// SPDX-License-Identifier: Apache-2.0
// "static:FILE", "etcd:http://10.0.0.1:2379,10.0.0.2:2379", or a FILE as it was written before there was a choice.
#include "deploy/kvasird/members_flag.h"

#include <algorithm>

#include "deploy/flags.h"
#include "deploy/text.h"

namespace kvasir {
namespace {

constexpr std::string_view kStatic = "static:", kEtcd = "etcd:";
constexpr std::string_view kHttp = "http://", kHttps = "https://";

absl::Status Bad(std::string_view url, std::string_view why) {
  return absl::InvalidArgumentError(
      Cat("'", url, "' ", why, ". Write etcd:URL[,URL], like etcd:http://10.0.0.1:2379,http://10.0.0.2:2379"));
}

absl::StatusOr<std::string> ParseUrl(std::string_view url) {
  std::string_view rest = url.substr(url.starts_with(kHttps)  ? kHttps.size()
                                     : url.starts_with(kHttp) ? kHttp.size()
                                                              : 0);
  if (rest.ends_with('/')) rest.remove_suffix(1);
  if (rest.find("://") != rest.npos) return Bad(url, "is no http or https URL");
  if (rest.find('/') != rest.npos) return Bad(url, "has a path, etcd has none");
  const auto address = ParseHostPort(rest);
  if (!address.ok()) return Bad(url, Cat("is not an address of etcd: ", address.status().message()));
  if (address->port == 0) return Bad(url, "has port 0");
  return address->Text();
}

}  // namespace

absl::StatusOr<MembersFlag> ParseMembersFlag(std::string_view text) {
  MembersFlag flag;
  if (!text.starts_with(kEtcd)) {
    flag.file = text.substr(text.starts_with(kStatic) ? kStatic.size() : 0);
    if (!flag.file.empty()) return flag;
    return absl::InvalidArgumentError(Cat("'", text, "' names no file. Write static:FILE or etcd:URL[,URL]"));
  }
  for (const std::string& url : Split(text.substr(kEtcd.size()), ',')) {
    auto endpoint = ParseUrl(url);
    if (!endpoint.ok()) return endpoint.status();
    if (std::find(flag.endpoints.begin(), flag.endpoints.end(), *endpoint) != flag.endpoints.end())
      return Bad(url, "is there twice");
    if (!flag.endpoints.empty() && flag.tls != url.starts_with(kHttps))
      return Bad(url, "differs from the one before in http or https");
    flag.tls = url.starts_with(kHttps);
    flag.endpoints.push_back(*std::move(endpoint));
  }
  if (flag.endpoints.empty()) return Bad(text, "names no URL");
  if (flag.endpoints.size() > kEtcdEndpointsMax) {
    return Bad(text, Cat("names ", flag.endpoints.size(), " URLs; at most ", kEtcdEndpointsMax, " are allowed"));
  }
  return flag;
}

}  // namespace kvasir
