// A plugin for qemu-user 7.2: counts the executed instructions of all threads, and prints "instructions N" to stderr at the end.
// Debian does not package qemu-plugin.h, so the declarations that are needed are here.
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), int flags, void *);
void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void *), void *);

int qemu_plugin_version = 1;
static uint64_t total;

static void run_block(unsigned cpu, void *length) {
  (void)cpu;
  __atomic_fetch_add(&total, (uintptr_t)length, __ATOMIC_RELAXED);
}

static void translate_block(plugin_id id, struct qemu_plugin_tb *block) {
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_cb(block, run_block, 0, (void *)(uintptr_t)qemu_plugin_tb_n_insns(block));
}

static void print_total(plugin_id id, void *unused) {
  (void)id, (void)unused;
  fprintf(stderr, "instructions %" PRIu64 "\n", total);
}

int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
  (void)info, (void)argc, (void)argv;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translate_block);
  qemu_plugin_register_atexit_cb(id, print_total, NULL);
  return 0;
}
