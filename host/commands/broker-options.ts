// Options of every command that connects to a broker.
import { InvalidArgumentError, Option } from "commander";
import type { Command } from "commander";
import type { Protocol } from "../service/mqtt/connection.ts";

function parseProtocol(text: string): Protocol {
  if (text === "4") return 4;
  if (text === "5") return 5;
  throw new InvalidArgumentError("4 means MQTT 3.1.1, 5 means MQTT 5.");
}

export function addBrokerOptions(command: Command): Command {
  return command
    .addOption(
      new Option("--protocol <version>", "4 for MQTT 3.1.1 only, 5 for MQTT 5 only (default: 5, else 3.1.1)").argParser(
        parseProtocol,
      ),
    )
    .option("--ca <file>", "PEM file with the authority that signed the broker's certificate")
    .option("--cert <file>", "PEM file with the client certificate")
    .option("--key <file>", "PEM file with the client's private key")
    .addHelpText(
      "after",
      "\nThe user name and password for the broker come from EDGELABEL_MQTT_USERNAME and\nEDGELABEL_MQTT_PASSWORD, never from arguments.",
    );
}
