// The store on a disk that loses power: what was written and not synced is there in any part, torn and out of order
// (power_cut_disk.h). Whatever is left opens without a Fault, holds all that was reported durable and nothing that was
// never submitted, whole batches in their order; and so again after another cut, in the middle of that recovery.
//
// COORD_POWER_CUTS=N: so many cuts in each test that has some, for a long run; COORD_POWER_CUT_SEED=S: begin there.
// A failure names seed and position, and keeps the directory as it was found. Threads race, so that a seed is not a
// replay to the byte: what was kept is.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <functional>
#include <sstream>

#include "common/base/log.h"
#include "replica/store/schema.h"
#include "tests/replica/store/power_cut_disk.h"
#include "tests/replica/store/power_cut_history.h"
#include "tests/replica/store/power_cut_life.h"

namespace coord::store::power_cut {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kCutsOfRun = 20;
constexpr std::uint64_t kNever = 3'600'000;
const std::string kLmdbLockPath = std::string("data/") + schema::kLmdbLockFile;

std::size_t from_environment(const char* name, std::size_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::strtoull(value, nullptr, 10);
}

// --- where we are, also when the store ends the process

std::array<char, 2000> where_text{};
constexpr std::array<int, 3> kFatal = {SIGABRT, SIGSEGV, SIGBUS};
std::array<struct sigaction, kFatal.size()> where_before{};

void say_where(int signal) {
  const ssize_t said = ::write(STDERR_FILENO, where_text.data(), std::strlen(where_text.data()));
  static_cast<void>(said);
  for (std::size_t i = 0; i < kFatal.size(); ++i) {
    if (kFatal[i] == signal) ::sigaction(signal, &where_before[i], nullptr);
  }
}

void set_where(const std::string& text) {
  const std::string line = "\nended by a signal at " + text + "\n";
  std::strncpy(where_text.data(), line.c_str(), where_text.size() - 1);
}

const char* kind_name(Event::Kind kind) {
  static constexpr std::array<const char*, 7> kNames = {"write", "written", "truncate", "sync", "synced",
                                                        "name",  "note"};
  return kNames[static_cast<std::size_t>(kind)];
}

std::string describe(const std::vector<Event>& events, std::size_t at) {
  const Event& event = events[at];
  const bool ends = event.kind == Event::Kind::kWritten || event.kind == Event::Kind::kSynced;
  std::ostringstream out;
  out << "\n  " << at << " " << kind_name(event.kind);
  if (event.kind == Event::Kind::kNote) {
    out << (event.note == Note::kOpened ? " opened" : event.note == Note::kSubmitted ? " submitted " : " durable ");
    if (event.note != Note::kOpened) out << event.value;
  } else if (ends) {
    out << (event.durable ? " O_DSYNC" : "") << " (" << event.begin << ") file " << events[event.begin].file;
  } else {
    out << " file " << event.file << " " << event.from << " " << event.name;
    if (event.kind == Event::Kind::kWrite) out << "at " << event.offset << " bytes " << event.size;
  }
  return out.str();
}

struct Known {
  std::size_t acked = 0;
  std::size_t submitted = 0;
  bool opened = false;
};

Known known_at(const Recording& recording, std::size_t position) {
  Known known;
  for (std::size_t i = 0; i < position; ++i) {
    const Event& event = recording.events[i];
    if (event.kind != Event::Kind::kNote) continue;
    if (event.note == Note::kOpened) known.opened = true;
    if (event.note == Note::kSubmitted) known.submitted = event.value;
    if (event.note == Note::kDurable) known.acked = event.value;
  }
  return known;
}

class PowerCut : public ::testing::Test {
 protected:
  void SetUp() override {
    log::set_level(log::Level::kError);
    struct sigaction action {};
    action.sa_handler = say_where;
    for (std::size_t i = 0; i < kFatal.size(); ++i) ::sigaction(kFatal[i], &action, &where_before[i]);
  }
  void TearDown() override {
    for (std::size_t i = 0; i < kFatal.size(); ++i) ::sigaction(kFatal[i], &where_before[i], nullptr);
    log::set_level(log::Level::kInfo);
  }

  // Runs until there were so many cuts.
  void cuts(std::size_t usual, const std::function<LmdbOptions(Random&)>& options, const Plan& plan,
            std::size_t steps) {
    const std::size_t wanted = from_environment("COORD_POWER_CUTS", usual);
    const std::size_t first = from_environment("COORD_POWER_CUT_SEED", 1);
    for (std::size_t done = 0; done < wanted && !HasFailure(); done += kCutsOfRun) {
      run(first + done / kCutsOfRun, std::min(kCutsOfRun, wanted - done), options, plan, steps);
    }
  }
  void run(std::size_t seed, std::size_t count, const std::function<LmdbOptions(Random&)>& make, const Plan& plan,
           std::size_t steps);
  void cut_all(const Recording& recording, const History& history, std::size_t count, std::size_t depth,
               bool settled, Random& random, const std::string& where);
  void recover(const Image& image, const History& expected, const Known& known, std::size_t depth, Random& random,
               const std::string& where);
  std::string open_and_live(const LmdbOptions& options, const History& expected, const Known& known, bool exact,
                            Recorder& recorder, Random& random, std::size_t steps, const Plan& plan, History& after);
  void report(const Image& image, const std::string& where, const std::string& wrong);
  std::string fresh(const std::string& name) {
    const std::string path = dir / name;
    fs::remove_all(path);
    fs::create_directory(path);
    return path;
  }

  TempDir dir;
  std::size_t second_cuts = 0;  // so many cuts of each recovery; 0: one of every other
};

// Of a store that is opened once more, whoever wrote it.
LmdbOptions any_options(Random& random) {
  static constexpr std::array<std::uint64_t, 4> kJournals = {0, 64U << 10, 64U << 10, 256U << 10};
  static constexpr std::array<std::uint64_t, 3> kAges = {kNever, 1, 50};
  LmdbOptions options = small_options("");
  options.journal_bytes = kJournals[random() % kJournals.size()];
  options.apply_age_ms = options.apply_quiet_ms = kAges[random() % kAges.size()];
  options.apply_bytes = random() % 2 == 0 ? 64U << 20 : 20'000;
  options.log_keep_entries = random() % 2 == 0 ? 20 : 100'000;
  options.salvage = random() % 2 == 0;
  return options;
}

// What is wrong with what is found; else it lives on, and `after` is its history.
std::string PowerCut::open_and_live(const LmdbOptions& options, const History& expected, const Known& known,
                                    bool exact, Recorder& recorder, Random& random, std::size_t steps,
                                    const Plan& plan, History& after) {
  auto opened = open_lmdb(options);
  if (!opened) return "it is not opened: " + opened.error().message;
  Store& store = **opened;
  recorder.note(Note::kOpened);
  const auto contents = read_all(store);
  if (!contents) return "it cannot be read: " + contents.error().message;
  if (std::string wrong = expected.judge(*contents, known.acked, known.submitted); !wrong.empty()) return wrong;
  if (exact && contents->meta.tree_durable != expected.last().tree->at) return "a fold is missing after an orderly end";
  after = History(*contents);
  bool stuck = false;
  if (steps > 0) {
    Life life(store, after, recorder, random, plan);
    life.live(steps);
    stuck = life.stuck();
    if (!mapped_for_writing(options.directory).empty() &&
        mapped_for_writing(options.directory) != std::vector<std::string>{options.directory + "/lock.mdb"}) {
      return "files are mapped to be written, which nobody records";
    }
  }
  opened->reset();
  return stuck ? "something was not reported" : "";
}

void PowerCut::run(std::size_t seed, std::size_t count, const std::function<LmdbOptions(Random&)>& make,
                   const Plan& plan, std::size_t steps) {
  Random random(static_cast<std::uint32_t>(seed));
  const std::string where = "seed " + std::to_string(seed);
  set_where(where);
  const std::string root = fresh("life");
  LmdbOptions options = make(random);
  options.directory = root + "/data";
  Recorder recorder(root, random() % 2 == 0 ? 0 : 300);
  History history;
  const std::string wrong =
      open_and_live(options, History(), {}, true, recorder, random, steps, plan, history);
  ASSERT_EQ(wrong, "") << where;
  const Recording recording = recorder.stop();
  // Nothing was written past the recorder.
  Disk disk = recording.before;
  disk.advance(recording.events, recording.events.size());
  const Image whole = disk.whole(recording.events);
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    const std::string name = fs::relative(entry.path(), root).string();
    ASSERT_EQ(whole.files.count(name), 1U) << name;
    if (entry.is_directory() || name == kLmdbLockPath) continue;
    ASSERT_TRUE(whole.files.at(name)->is(entry.path())) << name << " was written otherwise; " << where;
  }
  cut_all(recording, history, count, 1, false, random, where);
}

// `depth`: so many cuts one after the other. `settled`: the directory was in use before this recording.
void PowerCut::cut_all(const Recording& recording, const History& history, std::size_t count, std::size_t depth,
                       bool settled, Random& random, const std::string& where) {
  const std::vector<Event>& events = recording.events;
  std::vector<std::size_t> reported;  // right behind it, what was reported must be there
  std::vector<std::size_t> syncing;
  std::size_t opened = events.size();
  for (std::size_t i = 0; i < events.size(); ++i) {
    if (events[i].kind == Event::Kind::kSynced || events[i].durable) syncing.push_back(i);
    if (events[i].kind != Event::Kind::kNote || events[i].note == Note::kSubmitted) continue;
    if (events[i].note == Note::kOpened) opened = i;
    reported.push_back(i + 1);
  }
  std::vector<std::size_t> positions;
  for (std::size_t i = 0; i < count; ++i) {
    const auto how = random() % 8;
    positions.push_back(how < 2 * depth ? random() % (opened + 1)
                        : how == 6      ? reported[random() % reported.size()]
                        : how == 7      ? syncing[random() % syncing.size()]
                                        : random() % (events.size() + 1));
  }
  std::sort(positions.begin(), positions.end());
  Disk disk = recording.before;
  for (const std::size_t position : positions) {
    disk.advance(events, position);
    const Known known = known_at(recording, position);
    History expected = history;
    if (!known.opened && !settled) expected.directory_id.clear();
    const Image image = disk.cut(events, random);
    std::ostringstream here;
    here << where << ", position " << position << " of " << events.size() << " (" << image.how << ")";
    std::ostringstream last;
    for (std::size_t i = position - std::min<std::size_t>(position, 12); i < position; ++i) last << describe(events, i);
    recover(image, expected, known, depth, random, here.str());
    if (HasFailure()) std::printf("before the cut at %s:%s\n", here.str().c_str(), last.str().c_str());
    if (HasFailure()) return;
  }
}

void PowerCut::recover(const Image& image, const History& expected, const Known& known, std::size_t depth,
                       Random& random, const std::string& where) {
  set_where(where);
  const std::string root = fresh("left" + std::to_string(depth));
  ASSERT_NO_FATAL_FAILURE(image.write(root));
  LmdbOptions options = any_options(random);
  options.directory = root + "/data";
  const bool on = depth == 1;  // life goes on, and the power is cut again
  Recorder recorder(root, random() % 2 == 0 ? 0 : 100);
  History after;
  std::string wrong = open_and_live(options, expected, known, false, recorder, random, on ? 1 + random() % 8 : 0, {},
                                    after);
  if (!wrong.empty()) return report(image, where, wrong);
  if (!on) return;
  const Recording recording = recorder.stop();
  if (random() % 4 == 0) {
    History again;
    const Known all{after.size(), after.size(), true};
    Recorder unused(root);  // spares the disk
    wrong = open_and_live(options, after, all, true, unused, random, 0, {}, again);
    if (!wrong.empty()) return report(image, where + ", opened again", wrong);
  }
  const std::size_t count = second_cuts != 0 ? second_cuts : random() % 2;
  if (count > 0) cut_all(recording, after, count, depth + 1, known.opened, random, where);
}

void PowerCut::report(const Image& image, const std::string& where, const std::string& wrong) {
  std::string kept = (fs::temp_directory_path() / "coord-power-cut-XXXXXX").string();
  ASSERT_NE(::mkdtemp(kept.data()), nullptr);
  image.write(kept);
  ADD_FAILURE() << wrong << "\nat " << where << "\nwhat was found is kept in " << kept;
}

// --- the tests

TEST_F(PowerCut, small_batches_and_a_journal_that_goes_round) {
  const auto options = [](Random& random) {
    LmdbOptions round = any_options(random);
    round.journal_bytes = 64U << 10;
    if (random() % 2 == 0) round.apply_age_ms = round.apply_quiet_ms = kNever;
    if (round.apply_age_ms == kNever) round.apply_bytes = 64U << 20;  // the journal itself has to ask for it
    return round;
  };
  cuts(60, options, {1, 4, 0, 60}, 150);
}

TEST_F(PowerCut, without_a_journal) {
  const auto options = [](Random& random) {
    LmdbOptions without = any_options(random);
    without.journal_bytes = 0;
    return without;
  };
  cuts(40, options, {}, 60);
}

TEST_F(PowerCut, one_thing_after_the_other) { cuts(60, any_options, {3, 70, 5, 50}, 60); }

// Also: what is only in the journal is more than one transaction takes over.
TEST_F(PowerCut, a_file_that_grows) {
  const auto options = [](Random& random) {
    LmdbOptions large = any_options(random);
    large.journal_bytes = 2U << 20;
    large.apply_age_ms = large.apply_quiet_ms = kNever;
    large.apply_bytes = 64U << 20;
    return large;
  };
  second_cuts = 4;
  cuts(20, options, {70, 3, 0, 30}, 80);
}

TEST_F(PowerCut, snapshots_from_another_replica) { cuts(40, any_options, {2, 30, 35, 50}, 60); }

TEST_F(PowerCut, a_directory_that_is_being_made) { cuts(40, any_options, {}, 2); }

}  // namespace
}  // namespace coord::store::power_cut
