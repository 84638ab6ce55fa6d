// Four-letter words (client-protocol.md section 12.1): ruok srvr stat mntr isro conf envi. Any thread.
#pragma once

#include <string>
#include <string_view>

namespace coord::runtime {

class Core;

// Any of the words that ZooKeeper knows, so that they are never taken for a frame length.
bool is_four_letter_word(std::string_view word);

// `local`: over the Unix socket, where every word is allowed.
std::string answer_four_letter_word(Core& core, std::string_view word, bool local);

}  // namespace coord::runtime
