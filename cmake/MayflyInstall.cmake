# Install and export rules: libmayfly.a, the GoogleTest layer, headers, the package for find_package(mayfly).
include(CMakePackageConfigHelpers)

set_target_properties(mayfly_gtest PROPERTIES EXPORT_NAME gtest)
set_target_properties(mayfly_gtest_main PROPERTIES EXPORT_NAME gtest_main)
install(TARGETS mayfly mayfly_gtest mayfly_gtest_main EXPORT mayflyTargets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})

# Of the private headers only what public ones include.
install(DIRECTORY ${PROJECT_SOURCE_DIR}/harness/mayfly ${PROJECT_SOURCE_DIR}/fixtures/mayfly
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h" PATTERN internal EXCLUDE)
install(FILES ${PROJECT_SOURCE_DIR}/harness/mayfly/internal/process.h
              ${PROJECT_SOURCE_DIR}/harness/mayfly/internal/unique_fd.h
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/mayfly/internal)
install(FILES ${CMAKE_BINARY_DIR}/mayfly-generated/mayfly/capability.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/mayfly)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/mayfly)
set(data_directory ${CMAKE_INSTALL_DATADIR}/mayfly)
set(daemon ${CMAKE_INSTALL_LIBEXECDIR}/mayfly/mayflyd)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/mayflyConfig.cmake.in ${PROJECT_BINARY_DIR}/mayflyConfig.cmake
                              INSTALL_DESTINATION ${package} PATH_VARS data_directory daemon)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/mayflyConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(EXPORT mayflyTargets NAMESPACE mayfly:: DESTINATION ${package})
install(FILES ${PROJECT_BINARY_DIR}/mayflyConfig.cmake ${PROJECT_BINARY_DIR}/mayflyConfigVersion.cmake
              ${PROJECT_SOURCE_DIR}/cmake/MayflyDiscoverTests.cmake ${PROJECT_SOURCE_DIR}/cmake/MayflyListTests.cmake
        DESTINATION ${package})
