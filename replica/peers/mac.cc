#include "replica/peers/mac.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include <cstring>

#include "common/base/check.h"
#include "common/wire/codec.h"

namespace coord::peers {
namespace {

const unsigned char* bytes(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

EVP_MAC_CTX* keyed(std::string_view key) {
  static EVP_MAC* const kind = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
  COORD_CHECK_MSG(kind != nullptr, "OpenSSL has no HMAC");
  EVP_MAC_CTX* context = EVP_MAC_CTX_new(kind);
  COORD_CHECK(context != nullptr);
  char digest[] = "SHA256";
  const OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                                   OSSL_PARAM_construct_end()};
  // A null key would mean "the one of before"; an empty one is legal.
  const unsigned char* data = key.empty() ? bytes("") : bytes(key);
  COORD_CHECK(EVP_MAC_init(context, data, key.size(), parameters) == 1);
  return context;
}

}  // namespace

void FrameMac::Free::operator()(evp_mac_ctx_st* context) const { EVP_MAC_CTX_free(context); }

std::string hmac(std::string_view key, std::initializer_list<std::string_view> parts) {
  EVP_MAC_CTX* context = keyed(key);
  for (const std::string_view part : parts) COORD_CHECK(EVP_MAC_update(context, bytes(part), part.size()) == 1);
  std::string out(kMacBytes, '\0');
  std::size_t size = 0;
  COORD_CHECK(EVP_MAC_final(context, reinterpret_cast<unsigned char*>(out.data()), &size, out.size()) == 1);
  COORD_CHECK(size == kMacBytes);
  EVP_MAC_CTX_free(context);
  return out;
}

bool equal_secrets(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::string random_bytes(std::size_t count) {
  std::string out(count, '\0');
  COORD_CHECK_MSG(RAND_bytes(reinterpret_cast<unsigned char*>(out.data()), static_cast<int>(count)) == 1,
                  "no random numbers to be had from the system");
  return out;
}

FrameMac::FrameMac(std::string_view key) : context_(keyed(key)) {}

void FrameMac::tag(std::uint64_t sequence, std::string_view header, std::string_view payload, char* out) {
  COORD_CHECK(EVP_MAC_init(context_.get(), nullptr, 0, nullptr) == 1);  // the key stays
  char number[8];
  wire::store_be(number, sequence);
  COORD_CHECK(EVP_MAC_update(context_.get(), bytes({number, sizeof number}), sizeof number) == 1);
  COORD_CHECK(EVP_MAC_update(context_.get(), bytes(header), header.size()) == 1);
  COORD_CHECK(EVP_MAC_update(context_.get(), bytes(payload), payload.size()) == 1);
  unsigned char whole[kMacBytes];
  std::size_t size = 0;
  COORD_CHECK(EVP_MAC_final(context_.get(), whole, &size, sizeof whole) == 1);
  std::memcpy(out, whole, kTagBytes);
}

}  // namespace coord::peers
