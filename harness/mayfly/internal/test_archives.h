// Archives and ELF files made of a few bytes, for tests of what reads them.
#pragma once

#include <elf.h>
#include <fmt/format.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mayfly::internal {

// A tar archive of regular files: {path, content}.
inline std::string MakeTar(const std::vector<std::pair<std::string, std::string>>& files) {
  constexpr size_t kBlock = 512;
  std::string tar;
  for (const auto& [path, content] : files) {
    std::string header(kBlock, '\0');
    auto put = [&](size_t at, std::string_view text) { header.replace(at, text.size(), text); };
    put(0, path);
    put(100, "0000644");
    put(108, "0000000");
    put(116, "0000000");
    put(124, fmt::format("{:011o}", content.size()));
    put(136, "00000000000");
    put(148, "        ");
    put(156, "0");
    put(257, std::string_view("ustar\00000", 8));
    uint32_t sum = 0;
    for (unsigned char byte : header) sum += byte;
    put(148, fmt::format("{:06o}", sum) + std::string("\0 ", 2));
    tar += header + content + std::string((kBlock - content.size() % kBlock) % kBlock, '\0');
  }
  return tar + std::string(2 * kBlock, '\0');
}

// A Debian package with a data.tar.
inline std::string MakeDeb(const std::string& data_tar, const std::string& member = "data.tar") {
  std::string deb = "!<arch>\n";
  for (const auto& [name, content] :
       {std::pair<std::string, std::string>{"debian-binary", "2.0\n"}, {member, data_tar}}) {
    deb += fmt::format("{:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", name, 0, 0, 0, 100644, content.size()) + content;
    if (content.size() % 2 != 0) deb += '\n';
  }
  return deb;
}

template <class T>
std::string BytesOf(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

inline Elf64_Ehdr MakeElfHeader() {
  Elf64_Ehdr header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ELFCLASS64;
  header.e_machine = EM_X86_64;
  return header;
}

// An ELF file with one note segment.
inline std::string MakeKernelElf(uint32_t note_type) {
  Elf64_Ehdr header = MakeElfHeader();
  header.e_phoff = sizeof header;
  header.e_phnum = 1;
  Elf64_Nhdr note{.n_namesz = 4, .n_descsz = 4, .n_type = note_type};
  std::string notes = BytesOf(note) + std::string("Xen\0", 4) + "addr";
  Elf64_Phdr segment{};
  segment.p_type = PT_NOTE;
  segment.p_offset = sizeof header + sizeof segment;
  segment.p_filesz = notes.size();
  return BytesOf(header) + BytesOf(segment) + notes;
}

// A kernel module: an ELF file with a section .modinfo.
inline std::string MakeModule(const std::string& modinfo) {
  const std::string names("\0.modinfo\0.shstrtab\0", 20);
  Elf64_Ehdr header = MakeElfHeader();
  header.e_shoff = sizeof header;
  header.e_shnum = 2;
  header.e_shstrndx = 1;
  Elf64_Shdr info{}, strings{};
  info.sh_name = 1;
  info.sh_offset = sizeof header + 2 * sizeof info;
  info.sh_size = modinfo.size();
  strings.sh_name = 10;
  strings.sh_offset = info.sh_offset + info.sh_size;
  strings.sh_size = names.size();
  return BytesOf(header) + BytesOf(info) + BytesOf(strings) + modinfo + names;
}

// A bzImage around a compressed kernel.
inline std::string MakeBzImage(const std::string& compressed) {
  std::string image(1024, '\0');
  auto put = [&](size_t at, const std::string& bytes) { image.replace(at, bytes.size(), bytes); };
  put(0x1f1, std::string(1, 1));
  put(0x1fe, "\x55\xaa");
  put(0x202, "HdrS");
  put(0x206, BytesOf(uint16_t{0x20f}));
  put(0x248, BytesOf(uint32_t{0}));
  put(0x24c, BytesOf(static_cast<uint32_t>(compressed.size() + 4)));
  return image + compressed + "size";
}

}  // namespace mayfly::internal
