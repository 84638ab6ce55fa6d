#include "replica/peers/tls.h"

#include <openssl/ssl.h>

namespace coord::peers {
namespace ssl = boost::asio::ssl;

Result<std::unique_ptr<ssl::context>, Fault> make_tls(const TlsFiles& files) {
  if (!files.on()) return std::unique_ptr<ssl::context>();
  const auto missing = [](const char* key) {
    return fail(Fault{std::string(key) + " is not given: TLS between replicas needs coord.peerTls.cert, "
                      "coord.peerTls.key and coord.peerTls.ca"});
  };
  if (files.certificate.empty()) return missing("coord.peerTls.cert");
  if (files.key.empty()) return missing("coord.peerTls.key");
  if (files.authority.empty()) return missing("coord.peerTls.ca");
  auto context = std::make_unique<ssl::context>(ssl::context::tls);
  boost::system::error_code error;
  const auto bad = [&error](const char* key, const std::string& file) {
    return fail(Fault{std::string(key) + ": cannot use " + file + ": " + error.message()});
  };
  context->set_options(ssl::context::default_workarounds | ssl::context::no_sslv2 | ssl::context::no_sslv3 |
                           ssl::context::no_tlsv1 | ssl::context::no_tlsv1_1 | ssl::context::no_compression,
                       error);
  SSL_CTX_set_min_proto_version(context->native_handle(), TLS1_2_VERSION);
  SSL_CTX_set_options(context->native_handle(), SSL_OP_NO_TICKET);
  SSL_CTX_set_session_cache_mode(context->native_handle(), SSL_SESS_CACHE_OFF);
  // A key with a password must not stop the start with a question on the terminal.
  context->set_password_callback([](std::size_t, ssl::context::password_purpose) { return std::string(); }, error);
  if (context->use_certificate_chain_file(files.certificate, error))
    return bad("coord.peerTls.cert", files.certificate);
  if (context->use_private_key_file(files.key, ssl::context::pem, error)) return bad("coord.peerTls.key", files.key);
  if (SSL_CTX_check_private_key(context->native_handle()) != 1) {
    return fail(Fault{"coord.peerTls.key: the key in " + files.key + " is not that of the certificate in " +
                      files.certificate});
  }
  if (context->load_verify_file(files.authority, error)) return bad("coord.peerTls.ca", files.authority);
  context->set_verify_mode(ssl::verify_peer | ssl::verify_fail_if_no_peer_cert, error);
  return context;
}

}  // namespace coord::peers
