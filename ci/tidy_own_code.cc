// A clang-tidy plugin, built and loaded by ci/lint: its one check limits all others to declarations outside of system
// headers. clang-tidy drops what it finds there anyway, yet matches every declaration of GoogleTest, Asio and the
// standard library first, which takes most of its time.

#include <clang-tidy/ClangTidyCheck.h>
#include <clang-tidy/ClangTidyModule.h>
#include <clang-tidy/ClangTidyModuleRegistry.h>
#include <clang/ASTMatchers/ASTMatchFinder.h>

namespace {

class OwnCode : public clang::tidy::ClangTidyCheck {
 public:
  using ClangTidyCheck::ClangTidyCheck;

  void registerMatchers(clang::ast_matchers::MatchFinder* finder) override {
    finder->addMatcher(clang::ast_matchers::translationUnitDecl().bind("unit"), this);
  }

  // The unit is matched before what it contains, and what it contains is asked for after that. Declarations of
  // precompiled headers, which are the system's, are not even loaded.
  void check(const clang::ast_matchers::MatchFinder::MatchResult& result) override {
    const clang::SourceManager& sources = *result.SourceManager;
    std::vector<clang::Decl*> own;
    for (clang::Decl* declaration : result.Nodes.getNodeAs<clang::TranslationUnitDecl>("unit")->noload_decls()) {
      if (!sources.isInSystemHeader(sources.getExpansionLoc(declaration->getLocation()))) own.push_back(declaration);
    }
    result.Context->setTraversalScope(own);
  }
};

class Module : public clang::tidy::ClangTidyModule {
 public:
  void addCheckFactories(clang::tidy::ClangTidyCheckFactories& factories) override {
    factories.registerCheck<OwnCode>("mayfly-own-code");
  }
};

const clang::tidy::ClangTidyModuleRegistry::Add<Module> kModule("mayfly-module", "limits the other checks");

}  // namespace
