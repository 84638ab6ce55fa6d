// TLS between replicas: both sides show a certificate and check that the other's is signed by the given authority;
// which names are in it does not matter (a member is who the authority signed). Only for the .cc files of this folder:
// Asio.
#pragma once

#include <boost/asio/ssl/context.hpp>
#include <memory>

#include "common/base/result.h"
#include "replica/peers/transport.h"

namespace coord::peers {

// Null: no TLS is configured. Fault: the key, the file, the reason.
Result<std::unique_ptr<boost::asio::ssl::context>, Fault> make_tls(const TlsFiles& files);

}  // namespace coord::peers
