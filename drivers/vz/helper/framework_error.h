// Errors and exceptions of the framework, as the driver throws them.
#pragma once

#import <Foundation/Foundation.h>

#include <nlohmann/json.hpp>
#include <string>

namespace mayfly::vz {

// "error" of an answer: class, summary that begins with `doing`, the framework's own words, domain and code.
nlohmann::json ToJson(NSError* _Nonnull error, const std::string& doing);
nlohmann::json ToJson(NSException* _Nonnull exception, const std::string& doing);
nlohmann::json BadSpecJson(const std::string& summary, const std::string& next_step = {});

std::string TextOf(NSString* _Nullable text);
NSString* _Nonnull ToNSString(const std::string& text);
NSURL* _Nonnull ToURL(const std::string& path);

}  // namespace mayfly::vz
