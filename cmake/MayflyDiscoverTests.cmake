#[[
mayfly_discover_tests(TARGET
  [TEST_PREFIX prefix] [TIMEOUT seconds] [LABELS label...] [LABELS_FROM_NAME regex] [PROCESSORS n] [RESOURCE_GROUPS group...]
  [ARTIFACTS_DIRECTORY dir] [XML_OUTPUT_DIR dir] [ENVIRONMENT VAR=value...] [PROPERTIES name value...])

Registers each GoogleTest test of TARGET, which links mayfly::gtest_main (or whose main() calls mayfly::InitGoogleTest and
mayfly::RunAllTests), as a CTest test of its own, under the name that --gtest_filter takes. The tests are listed after each
build of TARGET; listing starts no VM.

  TIMEOUT              seconds a test may take, default 300. A little before, the test writes the state of its VMs and
                       ends; CTest would kill it without a word.
  LABELS               default: vm
  LABELS_FROM_NAME     each group (…) of this regular expression that matches a test's name is a label of the test, too
  PROCESSORS           slots of `ctest -j` that a test takes, default 1
  RESOURCE_GROUPS      as CTest's property, for a resource specification such as "vms:1"
  ARTIFACTS_DIRECTORY  where failed tests leave console, logs and scripts; default: mayfly-artifacts in the build folder,
                       with a folder for PREFIX and TARGET there
  XML_OUTPUT_DIR       where each test leaves GoogleTest's XML; default: mayfly-xml in the build folder, likewise
  ENVIRONMENT          for the tests; generator expressions such as SERVER=$<TARGET_FILE:server> are evaluated
  PROPERTIES           other properties of the tests

What differs from gtest_discover_tests, and why:
* A skipped test is known by its exit code 77 and not by the text "[  SKIPPED ]", which GoogleTest also prints when a
  suite's set-up failed, and a test when it shows the output of a test in its guest: those are no skips.
* GTEST_TOTAL_SHARDS, GTEST_SHARD_INDEX and GTEST_SHARD_STATUS_FILE are unset: they would leave single tests empty and green.
  To spread a suite over several hosts, use `ctest -I start,end,stride`.
* Parameterised and typed tests keep their names. A name that shows the parameter's value would change with it, and with its
  address when it holds a pointer.
]]
include_guard(GLOBAL)

set(MAYFLY_LIST_TESTS_SCRIPT ${CMAKE_CURRENT_LIST_DIR}/MayflyListTests.cmake CACHE INTERNAL "")

function(mayfly_discover_tests target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "TEST_PREFIX;TIMEOUT;PROCESSORS;LABELS_FROM_NAME;ARTIFACTS_DIRECTORY;XML_OUTPUT_DIR"
                        "LABELS;RESOURCE_GROUPS;ENVIRONMENT;PROPERTIES")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "mayfly_discover_tests: unknown arguments: ${arg_UNPARSED_ARGUMENTS}")
  endif()
  if(arg_KEYWORDS_MISSING_VALUES)
    message(FATAL_ERROR "mayfly_discover_tests: no value for ${arg_KEYWORDS_MISSING_VALUES}")
  endif()
  if(NOT TARGET ${target})
    message(FATAL_ERROR "mayfly_discover_tests: '${target}' is no target")
  endif()
  foreach(property IN ITEMS TIMEOUT LABELS PROCESSORS RESOURCE_GROUPS ENVIRONMENT)
    if(property IN_LIST arg_PROPERTIES)
      message(FATAL_ERROR "mayfly_discover_tests: ${property} is an argument of its own, not one of PROPERTIES")
    endif()
  endforeach()
  string(REGEX REPLACE "[^A-Za-z0-9_.+-]" "_" id "${arg_TEST_PREFIX}${target}")
  foreach(default IN ITEMS TIMEOUT=300 PROCESSORS=1 LABELS=vm ARTIFACTS_DIRECTORY=${CMAKE_BINARY_DIR}/mayfly-artifacts/${id}
                           XML_OUTPUT_DIR=${CMAKE_BINARY_DIR}/mayfly-xml/${id})
    string(REGEX MATCH "^([A-Z_]+)=(.*)$" default "${default}")
    if(NOT DEFINED arg_${CMAKE_MATCH_1})
      set(arg_${CMAKE_MATCH_1} "${CMAKE_MATCH_2}")
    endif()
  endforeach()
  foreach(number IN ITEMS TIMEOUT PROCESSORS)
    if(NOT arg_${number} MATCHES "^[1-9][0-9]*$")
      message(FATAL_ERROR "mayfly_discover_tests: ${number}: '${arg_${number}}' is not a whole number above 0")
    endif()
  endforeach()

  set(environment MAYFLY_TEST_TIMEOUT=${arg_TIMEOUT} MAYFLY_ARTIFACTS_DIR=${arg_ARTIFACTS_DIRECTORY})
  foreach(variable IN ITEMS MAYFLY_PACKAGE_DATA_DIR MAYFLY_PACKAGE_DAEMON)  # set by the installed package
    if(${variable})
      list(APPEND environment ${variable}=${${variable}})
    endif()
  endforeach()
  list(APPEND environment ${arg_ENVIRONMENT})
  set(properties TIMEOUT ${arg_TIMEOUT} PROCESSORS ${arg_PROCESSORS} SKIP_RETURN_CODE 77 ${arg_PROPERTIES})

  # The lists go to the script in a file, as they are; one for each configuration where there are several.
  set(base ${CMAKE_CURRENT_BINARY_DIR}/${id}-mayfly)
  set(config "")
  set(ctest_config "")
  get_property(multi_config GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
  if(multi_config)
    set(config "-$<CONFIG>")
    set(ctest_config "-\${CTEST_CONFIGURATION_TYPE}")
  endif()
  file(GENERATE OUTPUT ${base}-settings${config}.cmake CONTENT
"set(EXECUTABLE [==[$<TARGET_FILE:${target}>]==])
set(PREFIX [==[${arg_TEST_PREFIX}]==])
set(XML_OUTPUT_DIR [==[${arg_XML_OUTPUT_DIR}]==])
set(LABELS [==[${arg_LABELS}]==])
set(LABELS_FROM_NAME [==[${arg_LABELS_FROM_NAME}]==])
set(RESOURCE_GROUPS [==[${arg_RESOURCE_GROUPS}]==])
set(ENVIRONMENT [==[${environment}]==])
set(PROPERTIES [==[${properties}]==])
" TARGET ${target})
  add_custom_command(
    TARGET ${target} POST_BUILD
    COMMAND ${CMAKE_COMMAND} -DSETTINGS=${base}-settings${config}.cmake -DOUTPUT=${base}-tests${config}.cmake
            -P ${MAYFLY_LIST_TESTS_SCRIPT}
    BYPRODUCTS ${base}-tests${config}.cmake
    COMMENT "Listing the tests of ${target}" VERBATIM)
  set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS ${base}-settings${config}.cmake)
  file(WRITE ${base}-include.cmake
"if(EXISTS \"${base}-tests${ctest_config}.cmake\")
  include(\"${base}-tests${ctest_config}.cmake\")
else()
  add_test(${target}_NOT_BUILT ${target}_NOT_BUILT)
endif()
")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${base}-include.cmake)
endfunction()
