// The MQTT packages print whole packets, and so texts and passwords, when DEBUG=* asks for it. Loaded
// before them, this takes them out of DEBUG, and leaves what it asks of other packages.
const { DEBUG } = process.env;
if (DEBUG) process.env["DEBUG"] = `${DEBUG},-mqttjs*,-mqtt-packet*`;
