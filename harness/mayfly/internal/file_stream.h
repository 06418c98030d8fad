// Files and directory trees as the frames `entry`, `data` and `end` of the agent protocol. Used by the host and the
// agent: an upload is a FileSender on the host and a FileReceiver in the guest, a download the other way.
//
// Neither throws: a failure is a FileError with errno and a text that names the path. Blocking file I/O. Not
// thread-safe.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <mayfly/internal/agent_message.h>
#include <mayfly/internal/unique_fd.h>

namespace mayfly::internal::agent {

struct FileError {
  int number = 0;    // errno
  std::string text;  // "/data/x: No space left on device"
  explicit operator bool() const { return number != 0; }
};
// `what` is a path, or a path and what is wrong with it; the text of `number` is added.
FileError MakeFileError(int number, std::string what);

class ContentHash {
 public:
  ContentHash();
  ~ContentHash();
  ContentHash(const ContentHash&) = delete;
  ContentHash& operator=(const ContentHash&) = delete;
  void Reset();
  void Add(std::string_view bytes);
  uint64_t Value() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Reads a file, or a tree in the order of names. Sockets, pipes and devices in a tree are left out; hard links become
// files of their own; links are sent as links, except the path itself, which is followed.
//
//   for (;;) {
//     MessageWriter header; bool body; FileError error = sender.Next(&header, &body);   // an empty header: all was
//     sent if (body) sender.Fill(space)  …
class FileSender {
 public:
  // No more than `limit` bytes of content are sent: EFBIG.
  explicit FileSender(std::string path, uint64_t limit = UINT64_MAX);
  ~FileSender();

  enum class Piece { kEntry, kData, kEnd, kDone };
  // Makes the next frame: its type and fields are set in `header`, to which the caller adds id and stream. After kData
  // and after a kEntry of a file, has_body() is true and Fill gives the body. A kData with an empty body need not be
  // sent.
  FileError Next(Piece* piece, MessageWriter* header);
  bool has_body() const { return has_body_; }
  FileError Fill(std::span<char> space, size_t* filled);
  uint64_t bytes() const { return bytes_; }

 private:
  struct Level {
    UniqueFd directory;
    std::string path;                // relative to the root, with a '/' at its end unless empty
    std::vector<std::string> names;  // from the last to the first
  };
  FileError Start(Piece* piece, MessageWriter* header);
  FileError NextInTree(Piece* piece, MessageWriter* header);
  FileError Enter(UniqueFd directory, std::string path);
  FileError Entry(MessageWriter* header, const struct stat& status, const std::string& name, UniqueFd file);
  std::string Shown(const std::string& name) const;

  const std::string path_;
  const uint64_t limit_;
  uint64_t bytes_ = 0;
  bool started_ = false;
  bool has_body_ = false;
  bool at_end_ = false;  // of the open file
  std::string name_;     // of the open file
  UniqueFd file_;
  ContentHash hash_;
  std::vector<Level> levels_;
};

// Writes what a FileSender sent. A file appears under its name only when it is complete and its checksum is right, with
// its mode and time; directories get theirs in Finish, unless they were there before. Nothing is written outside of
// `path`: names are checked, and no link below it is followed. The destructor removes a file that is not complete.
class FileReceiver {
 public:
  // Missing parents of `path` are made.
  explicit FileReceiver(std::string path);
  ~FileReceiver();

  // A message that is none of entry, data and end, or comes in the wrong order, is an error too (EPROTO).
  FileError Take(const Message& message, std::string_view body);
  FileError Finish();
  uint64_t bytes() const { return bytes_; }

 private:
  struct MadeDirectory {
    std::string name;
    mode_t mode;
    int64_t mtime;
  };
  FileError Begin(const Message& message, std::string_view body);
  FileError Root(const Message& message, std::string_view body);
  FileError MakeDirectory(const Message& message, std::string_view name);
  FileError MakeLink(const Message& message, std::string_view name);
  FileError OpenFile(const Message& message, std::string_view leaf, std::string_view body);
  FileError Write(std::string_view body);
  FileError EndFile(const Message& message);
  // The directory that holds `name`, opened without following links; it stays open for the next one. -1: errno is set.
  int Parent(std::string_view name);
  std::string Shown(std::string_view name) const;

  const std::string path_;
  uint64_t bytes_ = 0;
  uint64_t entries_ = 0;
  bool root_is_directory_ = false;
  UniqueFd root_;            // the directory `path`, or the one that holds it when it is a file
  std::string parent_name_;  // of parent_; valid when parent_ is open
  UniqueFd parent_;
  std::vector<MadeDirectory> made_;

  // The file that is being written.
  UniqueFd file_;
  int file_directory_ = -1;  // root_ or parent_
  std::string temporary_;
  std::string leaf_;
  std::string name_;
  mode_t mode_ = 0;
  int64_t mtime_ = 0;
  ContentHash hash_;
};

// Makes the missing parent directories of a path. Returns errno or 0.
int MakeParents(const std::string& path);

}  // namespace mayfly::internal::agent
