// The members in the forms of the parts that deal with them: the files' lines (config.h), replicated state
// (tree/ensemble.h), majorities (zab/quorum.h), addresses (peers/links.h). Pure.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/model/ids.h"
#include "replica/peers/links.h"
#include "replica/runtime/config.h"
#include "replica/tree/ensemble.h"
#include "replica/zab/quorum.h"

namespace coord::runtime {

// As zab::Config::membership_of wants it: what an entry of the log makes the members; nullopt: it is about something
// else.
std::optional<zab::Membership> membership_of(const std::string& payload);

// As zab::Config::enrolment_of wants it.
std::optional<std::map<Sid, std::string>> enrolment_of(const std::string& payload);

zab::Membership membership(const std::vector<Member>& members, Zxid version);
std::map<Sid, peers::PeerAddress> addresses(const std::vector<Member>& members);

// The files' list in the form that a reconfig request takes, one line each.
std::string lines_of(const std::vector<Member>& members);

// How the files' list differs from the replicated one in who is a member, as what, and where; empty: it does not.
std::string difference(const std::vector<Member>& file, const std::vector<Member>& replicated);

}  // namespace coord::runtime
