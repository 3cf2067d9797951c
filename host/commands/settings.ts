// `train --set name=value` and `train --settings` on the command line, and the errors of the
// options that these have replaced. The settings themselves are in host/training/setting-table.ts.
import { shellQuoted } from "../escape.ts";
import { type Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { EdgelabelError } from "../errors.ts";
import { camelCase, type TrainSettings } from "../library/settings.ts";
import {
  ALL_SETTINGS,
  isSwitch,
  parseSetting,
  RECIPES,
  type Setting,
  SETTINGS,
  typedValue,
} from "../training/setting-table.ts";

/** Widths of the list and its columns: setting and default, the default of the recipe "tutorial", what it takes. */
const LIST_WIDTH = 100;
const COLUMNS = [26, 9, 14];

/** What changes the recipe, but is asked for so often that it is an option. */
export const OWN_OPTIONS = ["seed", "epochs", "workers"] as const;

/** As the library takes them, but typed. */
export type GivenSettings = TrainSettings;

export function setOption(): Option {
  return new Option("--set <name=value>", "change a setting, as in --set units=32; may be repeated").argParser(
    (text: string, given: GivenSettings = {}): GivenSettings => {
      const [name, value] = text.split("=", 2);
      if (OWN_OPTIONS.some((own) => own === name))
        throw new InvalidArgumentError(`${name} is an option of its own: --${name} ${value}.`);
      try {
        const [setting] = parseSetting(text);
        return { ...given, [camelCase(setting.name)]: text.slice(setting.name.length + 1) };
      } catch (error) {
        if (error instanceof EdgelabelError) throw new InvalidArgumentError(error.message);
        throw error;
      }
    },
  );
}

/** Adds --settings, which prints the list and ends the command, as --help does. */
export function addSettingsList(command: Command): Command {
  return command
    .addOption(new Option("--settings", "list what --set takes, with defaults"))
    .on("option:settings", () => {
      command.configureOutput().writeOut!(settingsList(command));
      throw new CommanderError(0, "edgelabel.settings", "");
    });
}

function settingsList(command: Command): string {
  const help = Object.assign(command.createHelp(), { helpWidth: LIST_WIDTH });
  const termWidth = COLUMNS.reduce((sum, width) => sum + width + 1, -1);
  const line = (text: string, ...cells: string[]): string => {
    const term = cells.map((cell, i) => cell.padEnd(COLUMNS[i]!)).join(" ");
    if (term.length <= termWidth) return help.formatItem(term, termWidth, text, help);
    return `  ${term.trimEnd()}\n${help.formatItem("", termWidth, text, help)}`;
  };
  const lineOf = (setting: Setting): string => {
    const { name, values, help: text } = setting;
    const [preset, tutorial] = [RECIPES.default, RECIPES.tutorial].map((recipe) => typedValue(setting, recipe));
    const isShort = values.range.length <= COLUMNS[2]!;
    return line(
      isShort ? text : `${text}: ${values.range}`,
      preset === undefined ? name : assignment(name, preset),
      tutorial === undefined || tutorial === preset ? "" : tutorial,
      isShort ? values.range : "",
    );
  };
  const intro =
    "Settings for --set name=value, with the values that they have by default, and with the recipe tutorial where that " +
    `differs. Those that are true or false take these two. ${OWN_OPTIONS.map((name) => `--${name}`).join(", ")} are options.`;
  return [
    help.boxWrap(intro, LIST_WIDTH),
    "",
    line("", "name=default", "tutorial", "takes").trimEnd(),
    ...SETTINGS.flatMap(([group, settings]) => ["", `${group}:`, ...settings.map(lineOf)]),
    "",
  ].join("\n");
}

/** Options of version 0.1 that are settings now: without help, so that they can be told what they have become. */
export function addOldOptions(command: Command): Command {
  for (const [name, setting] of OLD_OPTIONS) {
    const flags = isSwitch(setting) ? [`--${name}`, `--no-${name}`] : [`--${name} <value>`];
    for (const flag of flags) command.addOption(new Option(flag).hideHelp());
  }
  return command.addOption(new Option("--augment <shares>").hideHelp()).addOption(new Option("--decay <x>").hideHelp());
}

const OLD_OPTIONS: readonly [name: string, setting: Setting][] = ALL_SETTINGS.filter(
  ({ path }) => !path.startsWith("augment."),
).map((setting) => [setting.old ?? setting.name, setting]);

/** Ends the command, with their new form, if old options are given. */
export function refuseOldOptions(command: Command): void {
  const valueOf = (name: string): unknown => {
    const key = new Option(`--${name}`).attributeName();
    return command.getOptionValueSource(key) === "cli" ? command.getOptionValue(key) : undefined;
  };
  if (valueOf("decay") !== undefined)
    command.error("error: --decay is gone, with the schedule inverse-time; take another: --set schedule=linear");
  const old: string[] = [];
  const now: string[] = [];
  for (const [name, { name: newName, values }] of OLD_OPTIONS) {
    const value = valueOf(name);
    if (value === undefined) continue;
    old.push(value === false ? `--no-${name}` : `--${name}`);
    now.push(assignment(newName, typeof value === "boolean" ? values.typed!(value)! : String(value)));
  }
  const augment = valueOf("augment");
  if (augment !== undefined) {
    old.push("--augment");
    // It replaced all shares of the recipe, of which only this one is not 0.
    const shares = /\btypo=/.test(String(augment)) ? String(augment) : `${augment},typo=0`;
    for (const share of shares.split(",")) now.push(`augment-${share.trim()}`);
  }
  if (old.length > 0)
    command.error(
      `error: ${old.join(", ")} ${old.length > 1 ? "are settings" : "is a setting"} now; write ${now.map((one) => `--set ${one}`).join(" ")} (edgelabel train --settings lists all)`,
    );
}

/** "name=value", in quotes if a shell would not leave the value as it is. */
function assignment(name: string, value: string): string {
  return `${name}=${/^[\w.,+-]+$/.test(value) ? value : shellQuoted(value)}`;
}
