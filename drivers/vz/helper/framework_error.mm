#include "drivers/vz/helper/framework_error.h"

#import <Virtualization/Virtualization.h>

#include <string_view>

namespace mayfly::vz {
namespace {

using nlohmann::json;

// Whose fault an error of the framework is. What a Mac or its signature lacks comes as an invalid configuration, too,
// and can be told by its words alone.
const char* ClassOf(NSError* error, std::string_view text) {
  if ([error.domain isEqualToString:VZErrorDomain]) {
    switch (error.code) {
      case VZErrorInvalidVirtualMachineConfiguration:
        if (text.find("entitlement") != std::string_view::npos) return "HostLacks";
        if (text.find("not available on this hardware") != std::string_view::npos) return "HostLacks";
        return "BadSpec";
      case VZErrorInvalidDiskImage:
        return "BadSpec";
      case VZErrorVirtualMachineLimitExceeded:
      case VZErrorNetworkError:
      case VZErrorOutOfDiskSpace:
      case VZErrorNotSupported:
        return "HostLacks";
      case VZErrorInvalidVirtualMachineState:
      case VZErrorInvalidVirtualMachineStateTransition:
        return "BadSpec";
      default:
        break;
    }
  }
  return "VmmDied";
}

std::string NextStepFor(NSError* error, std::string_view text) {
  if (text.find("entitlement") != std::string_view::npos) {
    return "sign the helper: codesign --force --sign - --entitlements drivers/vz/helper/mayfly-vz.entitlements "
           "libexec/mayfly/mayfly-vz";
  }
  if (error.code == VZErrorVirtualMachineLimitExceeded) return "stop another virtual machine first";
  return "";
}

}  // namespace

std::string TextOf(NSString* text) { return text == nil || text.UTF8String == nullptr ? "" : text.UTF8String; }

NSString* ToNSString(const std::string& text) {
  NSString* made = [NSString stringWithUTF8String:text.c_str()];
  return made == nil ? @"" : made;
}

NSURL* ToURL(const std::string& path) { return [NSURL fileURLWithPath:ToNSString(path)]; }

json ToJson(NSError* error, const std::string& doing) {
  std::string text = TextOf(error.localizedDescription);
  json notes = json::array();
  std::string reason = TextOf(error.localizedFailureReason);
  if (!reason.empty() && text.find(reason) == std::string::npos) notes.push_back(reason);
  if (id underlying = error.userInfo[NSUnderlyingErrorKey]; [underlying isKindOfClass:[NSError class]]) {
    NSError* cause = underlying;
    notes.push_back(TextOf(cause.domain) + " " + std::to_string(cause.code) + ": " +
                    TextOf(cause.localizedDescription));
  }
  notes.push_back(TextOf(error.domain) + " " + std::to_string(error.code));
  return {
      {"class", ClassOf(error, text + reason)},         {"summary", doing + ": " + text}, {"notes", std::move(notes)},
      {"next_step", NextStepFor(error, text + reason)}, {"domain", TextOf(error.domain)}, {"code", error.code}};
}

json ToJson(NSException* exception, const std::string& doing) {
  return {{"class", "BadSpec"},
          {"summary", doing + ": " + TextOf(exception.reason)},
          {"notes", {"the framework raised " + TextOf(exception.name)}}};
}

json BadSpecJson(const std::string& summary, const std::string& next_step) {
  return {{"class", "BadSpec"}, {"summary", summary}, {"notes", json::array()}, {"next_step", next_step}};
}

}  // namespace mayfly::vz
