// What a call throws, for tests of its words.
//
//   EXPECT_THAT(ErrorOf<GuestFailed>([&] { agent.Exec({"no-such-program"}); }), HasSubstr("no-such-program"));
#pragma once

#include <exception>
#include <string>

#include <gtest/gtest.h>

namespace mayfly::internal {

// The message of the ErrorType that `function` throws. Another error, and none, fails the test.
template <typename ErrorType, typename Function>
std::string ErrorOf(Function function) {
  try {
    function();
  } catch (const ErrorType& error) {
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another error: " << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

}  // namespace mayfly::internal
