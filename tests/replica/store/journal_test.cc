// The file format of the journal: what a crash may leave in it, and what is damage.
#include "replica/store/journal.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <random>

#include "tests/replica/store/store_testing.h"

namespace coord::store {
namespace {

namespace fs = std::filesystem;
using journal::kBlock;

constexpr std::uint64_t kSegment = journal::kSegmentMin;

void put(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

void poke(const std::string& path, std::uint64_t offset, char byte) {
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  file.seekp(static_cast<std::streamoff>(offset));
  file.put(byte);
}

class JournalTest : public ::testing::Test {
 protected:
  void SetUp() override { open(); }
  void open(std::uint64_t segment = kSegment) {
    journal.reset();
    auto opened = Journal::open({dir.path(), segment, 0});
    ASSERT_TRUE(opened) << opened.error().message;
    ASSERT_NE(*opened, nullptr);
    journal = std::move(*opened);
  }
  void begin(char letter) {
    mark = {true, std::string(journal::kIdSize, letter), 0};
    journal->begin(mark.id);
    texts.clear();
  }
  std::vector<Batch> batch(const std::string& text) {
    std::vector<Batch> batches(1);
    batches[0].append.push_back({Zxid{last.value + 1}, last, payload(text)});
    last = Zxid{last.value + 1};
    return batches;
  }
  // A record of one entry. Returns the offset in the file where it begins.
  std::uint64_t append(const std::string& text) {
    const std::string before = slurp(path);
    const auto batches = batch(text);
    const std::uint64_t must = journal->overwrites(Journal::bytes_of(batches));
    applied = std::max(applied, must);
    EXPECT_EQ(journal->append(batches), texts.size() + 1);
    texts.push_back(text);
    const std::string after = slurp(path);
    const auto change = std::mismatch(before.begin(), before.end(), after.begin());
    return static_cast<std::uint64_t>(change.first - before.begin()) / kBlock * kBlock;
  }
  Result<std::vector<JournalRecord>, Fault> read(std::uint64_t sequence = 0) {
    mark.sequence = sequence;
    return read_journal(dir.path(), mark);
  }
  // Everything above `sequence`, up to `newest` records in all, and nothing else.
  void expect_records(std::uint64_t sequence, std::uint64_t newest) {
    const auto records = read(sequence);
    ASSERT_TRUE(records) << records.error().message;
    ASSERT_EQ(records->size(), newest - sequence);
    for (const JournalRecord& record : *records) {
      ASSERT_EQ(record.sequence, ++sequence);
      ASSERT_EQ(record.entries.size(), 1U);
      ASSERT_EQ(*record.entries[0].payload, texts[sequence - 1]);
      ASSERT_EQ(record.entries[0].previous, record.previous);
    }
  }
  void expect_fault(const char* why, std::uint64_t sequence = 0) {
    const auto records = read(sequence);
    ASSERT_FALSE(records) << records->size();
    EXPECT_NE(records.error().message.find(why), std::string::npos) << records.error().message;
    EXPECT_NE(records.error().message.find("backup"), std::string::npos) << "names a remedy";
  }

  TempDir dir;
  const std::string path = dir / journal::kFile;
  std::unique_ptr<Journal> journal;
  JournalMark mark;
  Zxid last{1, 0};
  std::vector<std::string> texts;
  std::uint64_t applied = 0;
};

TEST_F(JournalTest, what_was_written_comes_back_in_order) {
  begin('a');
  std::vector<Batch> batches(3);
  batches[0].append = {{Zxid{1, 1}, Zxid{}, payload("one")}, {Zxid{1, 2}, Zxid{1, 1}, payload("")}};
  batches[0].commit_hint = Zxid{1, 1};
  batches[2].append = {{Zxid{1, 3}, Zxid{1, 2}, payload(std::string(20'000, 'x'))}};
  EXPECT_EQ(journal->append(batches), 1U);
  texts.resize(1);
  last = Zxid{1, 3};
  append("next");
  const auto records = read();
  ASSERT_TRUE(records) << records.error().message;
  ASSERT_EQ(records->size(), 2U);
  const JournalRecord& first = (*records)[0];
  ASSERT_EQ(first.entries.size(), 3U);
  EXPECT_EQ(first.previous, Zxid{});
  EXPECT_EQ(first.commit_hint, (Zxid{1, 1}));
  EXPECT_EQ(*first.entries[0].payload, "one");
  EXPECT_EQ(*first.entries[1].payload, "");
  EXPECT_EQ(first.entries[1].previous, (Zxid{1, 1}));
  EXPECT_EQ(first.entries[2].zxid, (Zxid{1, 3}));
  EXPECT_EQ(first.entries[2].payload->size(), 20'000U);
  EXPECT_EQ((*records)[1].commit_hint, Zxid{});
}

TEST_F(JournalTest, a_torn_last_record_is_none_at_whatever_byte_it_ends) {
  begin('a');
  append("first");
  append("second");
  const std::string before = slurp(path);
  const std::uint64_t at = append(std::string(300, 't'));
  const std::string whole = slurp(path);
  const std::uint64_t size = journal::kRecordHeaderSize + journal::kEntryHeaderSize + 300;
  for (std::uint64_t end = 0; end <= size; ++end) {
    put(path, whole.substr(0, at + end) + before.substr(at + end));
    ASSERT_NO_FATAL_FAILURE(expect_records(0, end == size ? 3 : 2)) << "up to byte " << end;
  }
  for (std::uint64_t begin_at = 1; begin_at < size; ++begin_at) {  // blocks go to the disk in any order
    put(path, before.substr(0, at + begin_at) + whole.substr(at + begin_at));
    ASSERT_NO_FATAL_FAILURE(expect_records(0, 2)) << "from byte " << begin_at;
  }
}

TEST_F(JournalTest, a_last_record_that_misses_any_of_its_blocks_is_none) {
  begin('a');
  append("first");
  const std::string before = slurp(path);
  const std::uint64_t at = append(std::string(5 * kBlock, 't'));
  const std::string whole = slurp(path);
  for (unsigned written = 0; written < 64; ++written) {
    std::string bytes = before;
    for (unsigned block = 0; block < 6; ++block) {
      if ((written >> block & 1U) != 0) {
        bytes.replace(at + block * kBlock, kBlock, whole, at + block * kBlock, kBlock);
      }
    }
    put(path, bytes);
    ASSERT_NO_FATAL_FAILURE(expect_records(0, written == 63 ? 2 : 1)) << written;
  }
}

TEST_F(JournalTest, a_changed_bit_anywhere_is_a_fault_or_the_torn_end_and_never_another_content) {
  begin('a');
  const std::uint64_t first = append("first");
  const std::uint64_t second = append(std::string(kBlock, 's'));
  const std::uint64_t third = append("third");
  const std::string whole = slurp(path);
  const std::uint64_t head = journal::kRecordHeaderSize + journal::kEntryHeaderSize;
  const auto within = [](std::uint64_t at, std::uint64_t from, std::uint64_t size) {
    return at >= from && at < from + size;
  };
  const auto check = [&](std::uint64_t at) {
    poke(path, at, static_cast<char>(whole[at] ^ (1 << at % 8)));
    SCOPED_TRACE("byte " + std::to_string(at));
    if (within(at, 0, journal::kHeaderSize)) {
      expect_fault("header");
    } else if (within(at, first, head + 5)) {
      expect_fault("record 1");
    } else if (within(at, second, head + kBlock)) {
      expect_fault("record 2");
    } else {
      expect_records(0, within(at, third, head + 5) ? 2 : 3);
    }
    poke(path, at, whole[at]);
  };
  for (std::uint64_t at = 0; at < whole.size(); at += at % kBlock < 200 ? 1 : 97) check(at);
  EXPECT_FALSE(HasFailure());
}

TEST_F(JournalTest, what_the_database_has_is_not_needed_whole) {
  begin('a');
  const std::uint64_t first = append("first");
  append("second");
  append("third");
  std::string bytes = slurp(path);
  bytes[first + 70] = 'X';
  put(path, bytes);
  ASSERT_NO_FATAL_FAILURE(expect_fault("record 1"));
  ASSERT_NO_FATAL_FAILURE(expect_records(1, 3));
  ASSERT_NO_FATAL_FAILURE(expect_records(3, 3));
}

TEST_F(JournalTest, segments_are_used_in_turn_and_stale_records_are_not_taken_for_new_ones) {
  begin('a');
  std::mt19937 random(7);
  for (int i = 0; i < 400; ++i) {
    append(std::string(random() % (random() % 9 == 0 ? 30'000 : 6000), static_cast<char>('a' + i % 26)));
    for (const std::uint64_t from : {applied, (applied + texts.size()) / 2, texts.size()}) {
      ASSERT_NO_FATAL_FAILURE(expect_records(from, texts.size())) << i;
    }
  }
  EXPECT_GT(applied, 300U) << "never came around";
}

TEST_F(JournalTest, a_record_torn_over_a_stale_one_is_none_and_leaves_those_before_whole) {
  begin('a');
  std::mt19937 random(9);
  for (int i = 0; i < 120; ++i) {
    const std::string before = slurp(path);
    const auto size = random() % 20'000;
    const std::uint64_t at = append(std::string(size, static_cast<char>('a' + i % 26)));
    const std::string whole = slurp(path);
    const std::uint64_t bytes_of_it = journal::kRecordHeaderSize + journal::kEntryHeaderSize + size;
    const std::uint64_t blocks = journal::whole_blocks(bytes_of_it) / kBlock;
    for (std::uint64_t missing = 0; missing < blocks; ++missing) {
      std::string bytes = whole;
      bytes.replace(at + missing * kBlock, kBlock, before, at + missing * kBlock, kBlock);
      put(path, bytes);
      ASSERT_NO_FATAL_FAILURE(expect_records(applied, texts.size() - 1)) << i << " without block " << missing;
    }
    put(path, whole);
  }
}

TEST_F(JournalTest, an_earlier_life_is_not_seen_by_a_later_one) {
  begin('a');
  for (int i = 0; i < 25; ++i) append(std::string(2000, 'o'));
  open();
  begin('b');
  ASSERT_NO_FATAL_FAILURE(expect_records(0, 0));
  append("new");  // behind it lie records 2 to 25 of the earlier life
  ASSERT_NO_FATAL_FAILURE(expect_records(0, 1));
  append("newer");
  ASSERT_NO_FATAL_FAILURE(expect_records(0, 2));
  mark.id = std::string(journal::kIdSize, 'a');
  ASSERT_NO_FATAL_FAILURE(expect_fault("not the one that belongs"));
}

TEST_F(JournalTest, a_payload_that_is_a_copy_of_the_journal_changes_nothing) {
  begin('a');
  append("first");
  append("second");
  const std::string copy = slurp(path).substr(kBlock, 2 * kBlock);
  const auto aligned = std::string(kBlock - journal::kRecordHeaderSize - journal::kEntryHeaderSize, 'p') + copy;
  const std::uint64_t third = append(aligned);
  ASSERT_EQ(slurp(path).substr(third + kBlock, copy.size()), copy) << "or there is nothing to see";
  append("fourth");
  ASSERT_NO_FATAL_FAILURE(expect_records(0, 4));
  std::string bytes = slurp(path);
  bytes[third + 100] = 'X';
  put(path, bytes);
  ASSERT_NO_FATAL_FAILURE(expect_fault("record 3"));
}

TEST_F(JournalTest, a_record_lost_between_two_is_a_fault) {
  begin('a');
  append("first");
  const std::uint64_t second = append("second");
  append("third");
  std::string bytes = slurp(path);
  bytes.replace(second, kBlock, kBlock, '\0');
  put(path, bytes);
  ASSERT_NO_FATAL_FAILURE(expect_fault("record 2"));
}

TEST_F(JournalTest, older_than_the_database_or_cut_off_is_a_fault) {
  begin('a');
  append("first");
  const std::string old = slurp(path);
  append("second");
  ASSERT_NO_FATAL_FAILURE(expect_records(2, 2));
  put(path, old);
  ASSERT_NO_FATAL_FAILURE(expect_fault("ends at record 1", 2));
  fs::resize_file(path, old.size() - 1);
  ASSERT_NO_FATAL_FAILURE(expect_fault("cut off"));
  fs::resize_file(path, 0);
  ASSERT_NO_FATAL_FAILURE(expect_fault("header"));
}

TEST_F(JournalTest, missing_is_a_fault_only_if_it_is_needed) {
  begin('a');
  journal.reset();
  fs::remove(path);
  ASSERT_NO_FATAL_FAILURE(expect_fault("missing"));
  mark.open = false;
  ASSERT_NO_FATAL_FAILURE(expect_records(0, 0));
}

TEST_F(JournalTest, of_a_closed_one_nothing_counts_but_writes_of_a_life_unknown_are_a_fault) {
  begin('a');
  append("first");
  mark.open = false;
  texts.clear();
  ASSERT_NO_FATAL_FAILURE(expect_records(0, 0));
  mark.id = std::string(journal::kIdSize, 'z');
  ASSERT_NO_FATAL_FAILURE(expect_fault("older"));
  mark.id = "";
  ASSERT_NO_FATAL_FAILURE(expect_fault("older"));
  open();
  journal->begin(std::string(journal::kIdSize, 'b'));  // and then the process died
  ASSERT_NO_FATAL_FAILURE(expect_records(0, 0));
}

TEST_F(JournalTest, a_file_of_another_size_or_with_holes_is_made_anew_and_what_was_left_half_made_goes) {
  struct stat st {};
  ASSERT_EQ(::stat(path.c_str(), &st), 0);
  const auto inode = st.st_ino;
  put(dir / journal::kNewFile, "half made");
  open();
  EXPECT_FALSE(fs::exists(dir / journal::kNewFile));
  ASSERT_EQ(::stat(path.c_str(), &st), 0);
  EXPECT_EQ(st.st_ino, inode) << "it was whole";
  open(2 * kSegment);
  EXPECT_EQ(fs::file_size(path), kBlock + 4 * kSegment);
  journal.reset();
  fs::remove(path);
  put(path, "");
  fs::resize_file(path, kBlock + 4 * kSegment);
  open(2 * kSegment);
  ASSERT_EQ(::stat(path.c_str(), &st), 0);
  EXPECT_GE(static_cast<std::uint64_t>(st.st_blocks) * 512, kBlock + 4 * kSegment);
  EXPECT_EQ(st.st_mode & 0777U, 0600U);
}

TEST_F(JournalTest, without_room_there_is_none) {
  journal.reset();
  fs::remove(path);
  const auto opened = Journal::open({dir.path(), kSegment, 1ULL << 60});
  ASSERT_TRUE(opened);
  EXPECT_EQ(*opened, nullptr);
  EXPECT_FALSE(fs::exists(path));
}

using JournalDeathTest = JournalTest;

TEST_F(JournalDeathTest, a_write_that_fails_ends_the_process) {
  GTEST_FLAG_SET(death_test_style, "fast");
  begin('a');
  append("first");
  const auto beyond_the_limit = [&] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{kBlock, kBlock};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    journal->append(batch("second"));
  };
  EXPECT_DEATH(beyond_the_limit(), "writing .*journal");
  const auto to_a_full_device = [&] {
    const int full = ::open("/dev/full", O_WRONLY);
    for (int fd = 3; fd < full; ++fd) ::dup2(full, fd);
    journal->append(batch("second"));
  };
  EXPECT_DEATH(to_a_full_device(), "writing .*journal");
  ASSERT_NO_FATAL_FAILURE(expect_records(0, 1));
}

}  // namespace
}  // namespace coord::store
