// Certificates made at test time: an authority and what it signs, as PEM files in a directory of the test's own.
#pragma once

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include "replica/peers/transport.h"

namespace coord::peers::testing {

class Authority {
 public:
  explicit Authority(const std::string& name) : name_(name) {
    std::string path = (std::filesystem::temp_directory_path() / "peers_tls_XXXXXX").string();
    EXPECT_NE(::mkdtemp(path.data()), nullptr);
    directory_ = path;
    key_.reset(new_key());
    certificate_.reset(make(name, key_.get()));
    write(directory_ / "ca.pem", [&](FILE* file) { PEM_write_X509(file, certificate_.get()); });
  }
  ~Authority() { std::filesystem::remove_all(directory_); }
  Authority(const Authority&) = delete;
  Authority& operator=(const Authority&) = delete;

  // A certificate of this authority; whoever uses it trusts `trusted`.
  TlsFiles sign(const std::string& name, const Authority& trusted) {
    const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(new_key(), EVP_PKEY_free);
    const std::unique_ptr<X509, decltype(&X509_free)> certificate(make(name, key.get()), X509_free);
    TlsFiles files;
    files.certificate = directory_ / (name + ".pem");
    files.key = directory_ / (name + ".key");
    files.authority = trusted.directory_ / "ca.pem";
    write(files.certificate, [&](FILE* file) { PEM_write_X509(file, certificate.get()); });
    write(files.key, [&](FILE* file) {
      PEM_write_PrivateKey(file, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
    });
    return files;
  }

 private:
  static EVP_PKEY* new_key() {
    EVP_PKEY* key = EVP_EC_gen("P-256");
    EXPECT_NE(key, nullptr);
    return key;
  }

  // For `key`, signed by the authority's key; the first one is the authority's own.
  X509* make(const std::string& name, EVP_PKEY* key) {
    X509* out = X509_new();
    X509_set_version(out, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(out), ++serial_);
    X509_gmtime_adj(X509_getm_notBefore(out), -3600);
    X509_gmtime_adj(X509_getm_notAfter(out), 3600);
    X509_set_pubkey(out, key);
    const auto set_name = [](X509_NAME* entry, const std::string& text) {
      X509_NAME_add_entry_by_txt(entry, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(text.c_str()), -1,
                                 -1, 0);
    };
    set_name(X509_get_subject_name(out), name);
    set_name(X509_get_issuer_name(out), name_);
    if (key == key_.get()) {
      X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, NID_basic_constraints, "critical,CA:TRUE");
      X509_add_ext(out, extension, -1);
      X509_EXTENSION_free(extension);
    }
    EXPECT_NE(X509_sign(out, key_.get(), EVP_sha256()), 0);
    return out;
  }

  template <class Write>
  static void write(const std::filesystem::path& path, Write put) {
    FILE* file = std::fopen(path.c_str(), "w");
    ASSERT_NE(file, nullptr);
    put(file);
    std::fclose(file);
  }

  const std::string name_;
  std::filesystem::path directory_;
  long serial_ = 0;
  std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key_{nullptr, EVP_PKEY_free};
  std::unique_ptr<X509, decltype(&X509_free)> certificate_{nullptr, X509_free};
};

}  // namespace coord::peers::testing
