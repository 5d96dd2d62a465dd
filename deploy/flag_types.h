// SPDX-License-Identifier: Apache-2.0
// Flags with units on top of CLI11, and one way to complain. Included by the files that parse a command line only:
// CLI11 is a large header.
#pragma once

#include <CLI/CLI.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "deploy/flags.h"
#include "deploy/term.h"
#include "deploy/text.h"

namespace kvasir {

inline constexpr size_t kHelpColumns = 100;     ///< of a line of help
inline constexpr size_t kHelpFlagColumns = 26;  ///< of a flag's name and type

/// A flag whose text `parse` turns into *target. The help shows `shown` as the default.
template <class Value>
CLI::Option* AddParsed(CLI::App& app, const std::string& name, const char* type,
                       absl::StatusOr<Value> (*parse)(std::string_view), Value* target, const std::string& shown,
                       const std::string& help) {
  const auto take = [name, parse, target](const std::string& text) {
    absl::StatusOr<Value> value = parse(text);
    if (!value.ok()) throw CLI::ValidationError(name, std::string(TextOf(value.status().message())));
    *target = *std::move(value);
  };
  return app.add_option_function<std::string>(name, take, help)->type_name(type)->default_str(shown);
}
inline CLI::Option* AddSize(CLI::App& app, const std::string& name, uint64_t* target, const std::string& help) {
  std::string shown = HumanBytes(*target);  // "2.0 GiB" -> "2GiB", as one would type it
  if (const size_t zero = shown.find(".0 "); zero != std::string::npos) shown.replace(zero, 3, "");
  return AddParsed<uint64_t>(app, name, "SIZE", ParseSize, target, shown, help);
}
inline CLI::Option* AddDuration(CLI::App& app, const std::string& name, Duration* target, const std::string& help) {
  const auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(*target).count();
  const std::string shown = milliseconds % 1000 == 0 ? Cat(milliseconds / 1000, "s") : Cat(milliseconds, "ms");
  return AddParsed<Duration>(app, name, "TIME", ParseDuration, target, shown, help);
}
inline CLI::Option* AddText(CLI::App& app, const std::string& name, const char* type, std::string* target,
                            const std::string& help) {
  return app.add_option(name, *target, help)->type_name(type)->default_str(*target);
}
/// A whole number from `min` to `max`.
template <class Integer>
CLI::Option* AddCount(CLI::App& app, const std::string& name, Integer* target, uint64_t min, uint64_t max,
                      const std::string& help) {
  const auto take = [name, target, min, max](const std::string& text) {
    uint64_t value = 0;
    if (!ParseNumber(text, &value) || value < min || value > max) {
      throw CLI::ValidationError(name, Cat("'", text, "' is not a whole number from ", min, " to ", max));
    }
    *target = static_cast<Integer>(value);
  };
  return app.add_option_function<std::string>(name, take, help)->type_name("N")->default_str(Cat(static_cast<uint64_t>(*target)));
}

/// The arguments as CLI11 wants them, last one first. CLI11 would take "--name=" for a flag whose value is the next argument;
/// here its value is empty, as when a script's variable is.
inline std::vector<std::string> Arguments(int argc, const char* const* argv) {
  std::vector<std::string> words;
  for (int i = argc - 1; i > 0; --i) {
    std::string word = argv[i];
    if (word.starts_with("--") && word.ends_with("=")) {
      words.emplace_back();
      word.pop_back();
    }
    words.push_back(std::move(word));
  }
  return words;
}

/// Help as Kvasir prints it: a flag, its type, its default in brackets; then the text, wrapped and aligned.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() {
    column_width(kHelpFlagColumns);
    label("OPTIONS", "FLAGS");
    label("SUBCOMMAND", "COMMAND");
  }
  std::string make_option_opts(const CLI::Option* option) const override {
    std::string text = option->get_type_name().empty() ? "" : " " + option->get_type_name();
    if (!option->get_default_str().empty()) text += " [" + option->get_default_str() + "]";
    return text;
  }
  std::string make_option_desc(const CLI::Option* option) const override { return Narrow(option->get_description()); }
  std::string make_subcommand(const CLI::App* app) const override {
    std::ostringstream out;
    CLI::detail::format_help(out, app->get_display_name(), Narrow(app->get_description()), get_column_width());
    return out.str();
  }

 private:
  static std::string Narrow(const std::string& text) { return Wrap(text, kHelpColumns - kHelpFlagColumns); }
};

/// What the user typed that nobody expected, with the nearest thing that exists: "unknown flag --dramm; did you mean
/// --dram?"
inline std::string Explain(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App* deepest = &app;
  while (!deepest->get_subcommands().empty()) deepest = deepest->get_subcommands().front();
  std::vector<std::string> rest = deepest->remaining();
  if (rest.empty()) rest = app.remaining();
  if (dynamic_cast<const CLI::ExtrasError*>(&error) == nullptr || rest.empty()) return error.what();
  const bool flag = rest[0].starts_with("-");
  std::vector<std::string> known;
  for (const CLI::App* from : {deepest, &app}) {
    for (const CLI::Option* option : from->get_options()) {
      for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
    }
  }
  const auto commands_of = [](const CLI::App& of) { return of.get_subcommands([](const CLI::App*) { return true; }); };
  const bool group = !commands_of(*deepest).empty();  // a command was to follow
  if (!flag) known.clear();
  for (const CLI::App* command : commands_of(group ? *deepest : app)) {
    if (!flag) known.push_back(command->get_name());
  }
  const std::string name = rest[0].substr(0, rest[0].find('='));
  const std::string_view near = Nearest(name, known);
  return Cat(flag              ? "unknown flag "
             : !group          ? "unexpected argument "
             : deepest == &app ? "there is no command "
                               : Cat("there is no command ", deepest->get_name(), " "),
             name, near.empty() ? "" : "; did you mean ", near, near.empty() ? "" : "?");
}

}  // namespace kvasir
