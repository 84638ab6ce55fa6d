#include "replica/tree/auth.h"

#include <openssl/evp.h>

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace coord::tree {
namespace {

void add(std::vector<AuthId>& ids, AuthId id) {
  if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(std::move(id));
}

}  // namespace

std::string digest_id(std::string_view credential) {
  unsigned char hash[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  COORD_CHECK(EVP_Digest(credential.data(), credential.size(), hash, &size, EVP_sha1(), nullptr) == 1);
  unsigned char text[2 * EVP_MAX_MD_SIZE];
  const int length = EVP_EncodeBlock(text, hash, static_cast<int>(size));
  std::string id(credential.substr(0, credential.find(':')));
  id += ':';
  id.append(reinterpret_cast<const char*>(text), static_cast<std::size_t>(length));
  return id;
}

Err authenticate(std::string_view scheme, std::string_view credential, std::string_view super_digest,
                 std::vector<AuthId>& ids) {
  if (scheme == "ip") return Err::kOk;
  if (scheme != "digest") return Err::kAuthFailed;
  std::string id = digest_id(credential);
  if (!super_digest.empty() && id == super_digest) add(ids, AuthId{"super", ""});
  add(ids, AuthId{"digest", std::move(id)});
  return Err::kOk;
}

}  // namespace coord::tree
