// The configuration that a request asks for, made of the framework's objects.
#pragma once

#import <Virtualization/Virtualization.h>

#include <mayfly/internal/unique_fd.h>

#include <nlohmann/json.hpp>
#include <vector>

namespace mayfly::vz {

// Thrown while a configuration is made: the "error" of the answer.
struct Refusal {
  nlohmann::json error;
};

// Takes the descriptors that the request names by their place in the message. The framework has validated what is
// returned. Throws Refusal, with the framework's words, and nlohmann::json::exception for what is no such request.
VZVirtualMachineConfiguration* _Nonnull ConfigurationOf(const nlohmann::json& request,
                                                        std::vector<internal::UniqueFd>& descriptors);

// The identifier of a machine of that configuration.
std::vector<uint8_t> IdentifierOf(VZVirtualMachineConfiguration* _Nonnull configuration);

}  // namespace mayfly::vz
