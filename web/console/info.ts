/** GET /info, as far as the page shows it. */
export interface Info {
  version: string;
  node: string;
  models: { name: string; version: string; labels: string[]; multiLabel?: true; waiting?: { version: string } }[];
  topics: { classify: string; label: string; status: string };
  group?: { name: string; classify: string } | undefined;
  /** What this user may do. */
  may: { commands: string[]; review: boolean };
}
