#include "common/tools/multi_script.h"

#include "common/base/number.h"
#include "common/model/path.h"

namespace coord::tools {
namespace {

using Words = std::vector<std::string>;

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }

Result<Words, Fault> split(std::string_view line) {
  Words words;
  for (std::size_t i = 0;;) {
    while (i < line.size() && is_blank(line[i])) ++i;
    if (i == line.size() || line[i] == '#') return words;
    std::string word;
    while (i < line.size() && !is_blank(line[i])) {
      const char c = line[i++];
      if (c == '\'') {
        const std::size_t end = line.find('\'', i);
        if (end == std::string_view::npos) return fail(Fault{"a single quote that is not closed"});
        word += line.substr(i, end - i);
        i = end + 1;
      } else if (c == '"') {
        for (;; ++i) {
          if (i == line.size()) return fail(Fault{"a double quote that is not closed"});
          if (line[i] == '"') break;
          if (line[i] == '\\' && i + 1 < line.size() &&
              std::string_view("\"\\n").find(line[i + 1]) != std::string_view::npos) {
            ++i;
            word.push_back(line[i] == 'n' ? '\n' : line[i]);
          } else {
            word.push_back(line[i]);
          }
        }
        ++i;
      } else if (c == '\\') {
        if (i == line.size()) return fail(Fault{"a backslash at the end of the line"});
        word.push_back(line[i++]);
      } else {
        word.push_back(c);
      }
    }
    words.push_back(std::move(word));
  }
}

Result<std::int32_t, Fault> parse_version(const std::string& word) {
  const auto version = parse_number<std::int32_t>(word);
  if (!version || *version < -1) return fail(Fault{"\"" + word + "\" is not a version (a number, or -1 for any)"});
  return *version;
}

struct Form {
  std::string_view name;
  wire::Op op;
  std::size_t least;  // words beside the name
  std::size_t most;
  bool has_data;
  std::string_view usage;
};
constexpr Form kForms[] = {
    {"create", wire::Op::kCreate, 1, 2, true, "create PATH [DATA]"},
    {"set", wire::Op::kSetData, 2, 3, true, "set PATH DATA [VERSION]"},
    {"delete", wire::Op::kDelete, 1, 2, false, "delete PATH [VERSION]"},
    {"check", wire::Op::kCheck, 2, 2, false, "check PATH VERSION"},
};

Result<MultiOp, Fault> parse_words(const Words& words) {
  const Form* form = nullptr;
  for (const Form& f : kForms) {
    if (f.name == words[0]) form = &f;
  }
  if (form == nullptr)
    return fail(Fault{"unknown operation \"" + words[0] + "\": expected create, set, delete or check"});
  const std::size_t arguments = words.size() - 1;
  if (arguments < form->least || arguments > form->most) return fail(Fault{"expected " + std::string(form->usage)});
  MultiOp op;
  op.op = form->op;
  op.path = words[1];
  if (!valid_path(op.path)) return fail(Fault{"\"" + op.path + "\" is not a valid node path"});
  if (form->has_data && arguments >= 2) op.data = words[2];
  const std::size_t version_at = form->has_data ? 3 : 2;
  if (form->op != wire::Op::kCreate && arguments >= version_at) {
    const auto version = parse_version(words[version_at]);
    if (!version) return fail(version.error());
    op.version = *version;
  }
  return op;
}

}  // namespace

Result<std::vector<MultiOp>, Fault> parse_multi(std::string_view text, std::string_view file_name) {
  std::vector<MultiOp> ops;
  for (int line = 1; !text.empty(); ++line) {
    const std::size_t end = text.find('\n');
    const auto fault = [&](const Fault& f) {
      return fail(Fault{std::string(file_name) + ":" + std::to_string(line) + ": " + f.message});
    };
    const Result<Words, Fault> words = split(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (!words) return fault(words.error());
    if (words->empty()) continue;
    Result<MultiOp, Fault> op = parse_words(*words);
    if (!op) return fault(op.error());
    op->line = line;
    ops.push_back(std::move(*op));
  }
  return ops;
}

std::string encode_multi(const std::vector<MultiOp>& ops, std::string_view chroot) {
  std::string body;
  wire::Writer w(body);
  for (const MultiOp& op : ops) {
    write(w, wire::MultiHeader{static_cast<std::int32_t>(op.op), false, -1});
    w.buffer(op.path == "/" && !chroot.empty() ? std::string(chroot) : std::string(chroot) + op.path);
    if (op.op == wire::Op::kCreate) {
      w.buffer(op.data);
      write(w, open_acl());
      w.i32(static_cast<std::int32_t>(wire::CreateMode::kPersistent));
      continue;
    }
    if (op.op == wire::Op::kSetData) w.buffer(op.data);
    w.i32(op.version);
  }
  write(w, wire::MultiHeader{-1, true, -1});
  return body;
}

Result<std::vector<MultiResult>> decode_multi(std::string_view reply, std::size_t count) {
  std::vector<MultiResult> results;
  wire::Reader r(reply);
  for (;;) {
    const wire::MultiHeader header = wire::read_multi_header(r);
    if (r.failed()) return fail(Err::kMarshallingError);
    if (header.done) break;
    if (results.size() == count) return fail(Err::kMarshallingError);
    MultiResult result;
    const auto op = static_cast<wire::Op>(header.type);
    if (op == wire::Op::kError) {
      result.err = static_cast<Err>(r.i32());
    } else if (op == wire::Op::kCreate || op == wire::Op::kCreate2) {
      result.path = r.string();
      if (op == wire::Op::kCreate2) result.stat = wire::read_stat(r);
    } else if (op == wire::Op::kSetData) {
      result.stat = wire::read_stat(r);
    } else if (op != wire::Op::kDelete && op != wire::Op::kCheck) {
      return fail(Err::kMarshallingError);
    }
    if (r.failed()) return fail(Err::kMarshallingError);
    results.push_back(std::move(result));
  }
  if (results.size() != count) return fail(Err::kMarshallingError);
  return results;
}

std::optional<std::size_t> culprit_of(const std::vector<MultiResult>& results) {
  for (std::size_t i = 0; i < results.size(); ++i) {
    if (results[i].err != Err::kOk) return i;
  }
  return std::nullopt;
}

std::string describe(const MultiOp& op) {
  for (const Form& form : kForms) {
    if (form.op == op.op) return std::string(form.name) + " " + op.path;
  }
  return op.path;
}

}  // namespace coord::tools
