/* cmif-server - runs the later layers of a split model for clients that send rows. */
#include "server/server.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "cmif-server - run the later layers of a split model for clients that send rows\n"
    "\n"
    "usage: cmif-server -m SERVER.gguf [options]\n"
    "\n"
    "  -m, --model FILE        server half of `cmif split`, or any GGUF file\n"
    "      --listen ADDRESS    unix:PATH or HOST:PORT, may be repeated (127.0.0.1:7490)\n"
    "      --tls-cert FILE     certificate, PEM (one is made in $XDG_STATE_HOME/cmif)\n"
    "      --tls-key FILE      its private key, PEM\n"
    "      --client-ca FILE    only clients with a certificate of this CA\n"
    "      --evidence KIND     prove to clients that ask what runs here: tdx, snp, sgx, tpm or sim\n"
    "      --evidence-device PATH  folder of configfs-tsm or Gramine, or TCTI of a TPM\n"
    "      --insecure-simulator    sim proves nothing, and is for trying things out\n"
    "      --max-sessions N    sessions with a cache at once, 1 to 256 (4)\n"
    "      --max-context N     rows of one session (the model's, at most 4096)\n"
    "      --max-connections N clients at once (256)\n"
    "      --idle SECONDS      drop a session without work for longer (900)\n"
    "      --batch N           rows of one step (512)\n"
    "      --threads N         of the engine (all cores)\n"
    "      --gpu-layers N      layers on the GPU (all)\n"
    "      --stall SECONDS     restart an engine that is silent for longer (120)\n"
    "      --die-with-parent   end when the pipe on standard input, else output, breaks\n"
    "      --json              the ready line as JSON\n"
    "  -h, --help              this text\n"
    "      --version           version and protocol\n"
    "\n"
    "A TCP address is always TLS 1.3. At start one line \"ready ADDRESS ... pin sha256:...\" is\n"
    "printed; give the pin to clients. SIGTERM lets running streams end, a second one does not.\n"
    "Exit code: 0 ended as asked, 1 failed, 2 wrong usage.\n";

enum {
    OPT_LISTEN = 256,
    OPT_CERT,
    OPT_KEY,
    OPT_CA,
    OPT_EVIDENCE,
    OPT_DEVICE,
    OPT_INSECURE,
    OPT_SESSIONS,
    OPT_CONTEXT,
    OPT_CONNECTIONS,
    OPT_IDLE,
    OPT_BATCH,
    OPT_THREADS,
    OPT_LAYERS,
    OPT_STALL,
    OPT_PARENT,
    OPT_JSON,
    OPT_VERSION
};

static const struct option long_options[] = {
    {"model", required_argument, NULL, 'm'},
    {"listen", required_argument, NULL, OPT_LISTEN},
    {"tls-cert", required_argument, NULL, OPT_CERT},
    {"tls-key", required_argument, NULL, OPT_KEY},
    {"client-ca", required_argument, NULL, OPT_CA},
    {"evidence", required_argument, NULL, OPT_EVIDENCE},
    {"evidence-device", required_argument, NULL, OPT_DEVICE},
    {"insecure-simulator", no_argument, NULL, OPT_INSECURE},
    {"max-sessions", required_argument, NULL, OPT_SESSIONS},
    {"max-context", required_argument, NULL, OPT_CONTEXT},
    {"max-connections", required_argument, NULL, OPT_CONNECTIONS},
    {"idle", required_argument, NULL, OPT_IDLE},
    {"batch", required_argument, NULL, OPT_BATCH},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"gpu-layers", required_argument, NULL, OPT_LAYERS},
    {"stall", required_argument, NULL, OPT_STALL},
    {"die-with-parent", no_argument, NULL, OPT_PARENT},
    {"json", no_argument, NULL, OPT_JSON},
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, OPT_VERSION},
    {0},
};

static cmif_code number(const char *name, long low, long high, uint32_t *out, cmif_err *err)
{
    char *end;
    errno      = 0;
    long value = strtol(optarg, &end, 10);
    if (errno || end == optarg || *end || value < low || value > high) {
        return cmif_fail(err, CMIF_E_RANGE, "--%s takes a number from %ld to %ld, not '%s'", name, low, high, optarg);
    }
    *out = (uint32_t) value;
    return CMIF_OK;
}

static cmif_code evidence_kind(const char *name, cmif_maker_kind *out, cmif_err *err)
{
    for (int kind = CMIF_MAKER_TDX; kind <= CMIF_MAKER_SIM; kind++) {
        if (strcmp(name, cmif_server_evidence_name((cmif_maker_kind) kind)) == 0) {
            *out = (cmif_maker_kind) kind;
            return CMIF_OK;
        }
    }
    return cmif_fail(err, CMIF_E_RANGE, "--evidence takes tdx, snp, sgx, tpm or sim, not '%s'", name);
}

static cmif_code take_option(int option, cmif_server_options *o, cmif_err *err)
{
    cmif_engine_options *engine = &o->worker.engine;
    uint32_t             layers = 0;
    cmif_code            rc     = CMIF_OK;

    switch (option) {
    case 'm':
        engine->path = optarg;
        break;
    case OPT_LISTEN:
        if (o->listen_count == CMIF_SERVER_DOORS_MAX) {
            return cmif_fail(err, CMIF_E_RANGE, "--listen at most %d times", CMIF_SERVER_DOORS_MAX);
        }
        o->listen[o->listen_count++] = optarg;
        break;
    case OPT_CERT:
        o->tls.cert = optarg;
        break;
    case OPT_KEY:
        o->tls.key = optarg;
        break;
    case OPT_CA:
        o->tls.client_ca = optarg;
        break;
    case OPT_EVIDENCE:
        return evidence_kind(optarg, &o->evidence.kind, err);
    case OPT_DEVICE:
        o->evidence.path = optarg;
        break;
    case OPT_INSECURE:
        o->evidence.insecure = 1;
        break;
    case OPT_SESSIONS:
        return number("max-sessions", 1, 256, &engine->slots, err);
    case OPT_CONTEXT:
        return number("max-context", 1, 1 << 24, &engine->context, err);
    case OPT_CONNECTIONS:
        return number("max-connections", 1, 65536, &o->max_connections, err);
    case OPT_IDLE:
        return number("idle", 1, 1000000, &o->idle_seconds, err);
    case OPT_BATCH:
        return number("batch", 1, 8192, &engine->batch, err);
    case OPT_THREADS:
        return number("threads", 1, 512, &engine->threads, err);
    case OPT_LAYERS:
        rc = number("gpu-layers", 0, 100000, &layers, err);
        if (rc == CMIF_OK) {
            engine->gpu_layers = (int32_t) layers;
        }
        return rc;
    case OPT_STALL:
        return number("stall", 1, 1000000, &o->worker.stall_seconds, err);
    case OPT_PARENT:
        o->die_with_parent = true;
        break;
    case OPT_JSON:
        o->json = true;
        break;
    default:
        return cmif_fail(err, CMIF_E_RANGE, "see cmif-server --help"); /* getopt said the rest */
    }
    return CMIF_OK;
}

static cmif_code take_options(int argc, char **argv, cmif_server_options *o, cmif_err *err)
{
    cmif_code rc = CMIF_OK;
    int       option;

    while ((option = getopt_long(argc, argv, "m:h", long_options, NULL)) != -1) {
        if (option == 'h' || option == OPT_VERSION) {
            if (option == 'h') {
                fputs(help, stdout);
            } else {
                printf("cmif-server %s, protocol %s\n", CMIF_VERSION, CMIF_WIRE_ALPN);
            }
            return CMIF_E_CANCELLED;
        }
        rc = take_option(option, o, err);
        if (rc != CMIF_OK) {
            return rc;
        }
    }
    if (optind < argc) {
        return cmif_fail(err, CMIF_E_RANGE, "'%s' is not an option; see cmif-server --help", argv[optind]);
    }
    if (!o->worker.engine.path) {
        return cmif_fail(err, CMIF_E_RANGE, "no model: say -m SERVER.gguf (made by `cmif split`)");
    }
    if (!o->tls.cert != !o->tls.key) {
        return cmif_fail(err, CMIF_E_RANGE, "--tls-cert and --tls-key belong together");
    }
    if (!o->evidence.kind && (o->evidence.path || o->evidence.insecure)) {
        return cmif_fail(err, CMIF_E_RANGE, "--evidence-device and --insecure-simulator go with --evidence KIND");
    }
    if (o->evidence.insecure && o->evidence.kind != CMIF_MAKER_SIM) {
        return cmif_fail(err, CMIF_E_RANGE, "--insecure-simulator is for --evidence sim: take it away");
    }
    if (o->evidence.kind == CMIF_MAKER_SIM && !o->evidence.insecure) {
        return cmif_fail(err, CMIF_E_RANGE,
                         "--evidence sim is INSECURE, it proves nothing: say --insecure-simulator if you mean it");
    }
    if (o->listen_count == 0) {
        o->listen[o->listen_count++] = "127.0.0.1:7490";
    }
    return CMIF_OK;
}

int main(int argc, char **argv)
{
    cmif_server_options options = {.worker          = {.engine = {.slots = 4, .gpu_layers = -1}, .stall_seconds = 120},
                                   .max_connections = 256,
                                   .idle_seconds    = 900};
    cmif_err            err     = {0};

    cmif_code rc = take_options(argc, argv, &options, &err);
    if (rc == CMIF_E_CANCELLED) {
        return 0;
    }
    if (rc != CMIF_OK) {
        fprintf(stderr, "cmif-server: %s\n", err.text);
        return 2;
    }
    setenv("TSS2_LOG", "all+NONE", /* overwrite= */ 0); /* our log has one line for each thing; err says what it was */
    if (cmif_server_run(&options, &err) != CMIF_OK) {
        fprintf(stderr, "cmif-server: %s\n", err.text);
        return 1;
    }
    return 0;
}
