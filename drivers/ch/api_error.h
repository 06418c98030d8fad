// What can go wrong between a client and Cloud Hypervisor's API, beyond VmmDied and Timeout.
#pragma once

#include <mayfly/errors.h>

#include <string>
#include <string_view>
#include <vector>

namespace mayfly::ch {

// Cloud Hypervisor's refusal of a request. `chain` has its own words, from the request ("The VM could not boot") to the
// root cause ("No such file or directory (os error 2)").
class ApiError : public Error {
 public:
  ApiError(std::string endpoint, unsigned status, std::vector<std::string> chain);
  const char* kind() const noexcept override { return "ApiError"; }

  const std::string& endpoint() const { return endpoint_; }  // "vm.boot"
  unsigned status() const { return status_; }
  const std::vector<std::string>& chain() const { return chain_; }
  // Whether any part of the chain contains `words`.
  bool Says(std::string_view words) const;

 private:
  std::string endpoint_;
  unsigned status_;
  std::vector<std::string> chain_;
};

// What came over the API is no answer of it: no HTTP, no JSON, too much, cut off.
class BadAnswer : public Error {
 public:
  using Error::Error;
  const char* kind() const noexcept override { return "BadAnswer"; }
};

// The body of a refusal as a chain: a JSON list of texts, or else the text itself.
std::vector<std::string> ErrorChain(const std::string& body);

// The beginning of what was received, fit for a message.
std::string Excerpt(std::string_view text);

}  // namespace mayfly::ch
