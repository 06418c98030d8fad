// What the commands print for people, from one thread: aligned columns, and colour where it is wanted.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace mayfly::cli {

// Adds to standard output, which is written by FinishOutput at the latest.
void Print(std::string_view text);

// Writes what was printed so far, for those who wait for it. False when standard output does not take it any more.
bool FlushOutput();

// Writes what was printed and returns the exit code for it: 0; kFailed, with a message, when standard output did not
// take it; 128 + SIGPIPE, silently, when its reader has gone away (`mayfly image list | head -1`).
int FinishOutput();

// A line on standard error. Never throws.
void Complain(std::string_view line) noexcept;

// Whether text on `fd` is coloured: on a terminal, unless NO_COLOR is set; CLICOLOR_FORCE colours files and pipes too.
bool WantsColour(int fd);

enum class Colour { kGreen, kYellow, kRed, kBold, kDim };
std::string Coloured(std::string_view text, Colour colour, bool on);

// Columns that `text` takes: its code points.
size_t Width(std::string_view text);
// The text filled up with spaces to `width` columns.
std::string Padded(std::string_view text, size_t width);
// The text, cut to `width` columns with an ellipsis when it is longer.
std::string CutToWidth(std::string_view text, size_t width);
// The words of the text on lines of at most `width` columns; a longer word has a line of its own.
std::vector<std::string> Wrapped(std::string_view text, size_t width);

}  // namespace mayfly::cli
