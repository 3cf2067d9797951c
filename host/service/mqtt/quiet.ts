// With DEBUG=*, the MQTT packages print whole packets, including texts and passwords. Loaded before
// them, this excludes them from DEBUG and leaves other packages alone.
const { DEBUG } = process.env;
if (DEBUG) process.env["DEBUG"] = `${DEBUG},-mqttjs*,-mqtt-packet*`;
