/* peer_rig - a server that proves itself with simulated evidence, in which one thing is wrong: PEER_RIG CERT KEY
 * MODEL_ID WHAT.
 *
 * WHAT: nothing, role, nonce, exporter, key, other-key, model, program; claims, policy: changed after the evidence was
 * made. Prints its port; then of one connection each frame that came, by name and size. It hangs up after HELLO. For
 * peer_cli_test.py, which a proxy cannot serve for want of the exporter value. */
#include "base/bytes.h"
#include "evidence/evidence.h"
#include "wire/wire.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *wrong;

static bool is(const char *what)
{
    return !strcmp(wrong, what);
}

static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *size, const unsigned char *in,
                       unsigned in_size, void *context)
{
    static const unsigned char ours[] = "\6cmif/1";
    unsigned char             *chosen;
    (void) ssl, (void) context;
    if (SSL_select_next_proto(&chosen, size, ours, sizeof ours - 1, in, in_size) != OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static bool send_proof(SSL *ssl, const uint8_t *proof, size_t size)
{
    static uint8_t   bytes[CMIF_WIRE_HEADER_SIZE + CMIF_WIRE_PAYLOAD_MAX];
    size_t           used;
    const cmif_frame frame = {.kind     = CMIF_FRAME_EVIDENCE,
                              .evidence = {.total = (uint32_t) size, .bytes = proof, .size = size}};
    return cmif_frame_encode(&frame, bytes, sizeof bytes, &used, NULL) == CMIF_OK &&
           SSL_write(ssl, bytes, (int) used) == (int) used;
}

static bool prove(SSL *ssl, const uint8_t nonce[static 32], const char *model_id)
{
    const cmif_maker_options o = {
        .kind     = CMIF_MAKER_SIM,
        .insecure = 1,
        .identity = is("program") ? "1111111111111111111111111111111111111111111111111111111111111111" : NULL};
    cmif_claims    claims       = {.program = "peer_rig", .model_id = {0}};
    uint8_t        exporter[32] = {0}, key[32] = {0}, asked[32], none[32] = {0}, *proof = NULL;
    unsigned char *der      = NULL;
    size_t         size     = 0;
    cmif_maker    *maker    = NULL;
    const int      der_size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(SSL_get_certificate(ssl)), &der);
    bool           good     = der_size > 0 && EVP_Digest(der, (size_t) der_size, key, NULL, EVP_sha256(), NULL) == 1 &&
                cmif_unhex(model_id, 32, claims.model_id) &&
                SSL_export_keying_material(ssl, exporter, sizeof exporter, CMIF_WIRE_EXPORTER,
                                           strlen(CMIF_WIRE_EXPORTER), NULL, 0, 0) == 1;
    memcpy(asked, nonce, sizeof asked);
    asked[0] ^= is("nonce");
    exporter[0] ^= is("exporter");
    key[0] ^= is("key");
    none[0] ^= is("other-key");
    claims.model_id[0] ^= is("model");
    const cmif_binding b = {.role      = is("role") ? 'c' : 's',
                            .nonce     = asked,
                            .exporter  = exporter,
                            .own_key   = is("role") ? none : key,
                            .other_key = is("role") ? key : none};
    good                 = good && cmif_maker_open(&o, &maker, NULL) == CMIF_OK &&
           cmif_proof_make(maker, &claims, &b, &proof, &size, NULL) == CMIF_OK;
    if (good) { /* "peer_rjg"; the first byte of the policy's hash */
        proof[4 + 9 + 6] ^= is("claims") ? 3 : 0;
        proof[4 + 9 + strlen(claims.program) + 32] ^= is("policy");
        good = send_proof(ssl, proof, size);
    }
    cmif_maker_free(maker);
    OPENSSL_free(der);
    free(proof);
    return good;
}

/* Until the client or we have had enough. */
static void serve(SSL *ssl, const char *model_id)
{
    static uint8_t in[1 << 21];
    size_t         have = 0, more;
    while (have < sizeof in && SSL_read_ex(ssl, in + have, sizeof in - have, &more) == 1) {
        cmif_frame frame = {.kind = 0};
        size_t     used;
        have += more;
        while (cmif_frame_decode(in, have, &frame, &used, NULL) == CMIF_OK) {
            printf("%s %zu\n", cmif_frame_name(frame.kind), used);
            if (frame.kind == CMIF_FRAME_HELLO ||
                (frame.kind == CMIF_FRAME_CHALLENGE && !prove(ssl, frame.challenge.nonce, model_id))) {
                return;
            }
            memmove(in, in + used, have - used);
            have -= used;
        }
    }
    if (have) {
        printf("REST %zu\n", have);
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t          size    = sizeof address;
    const int          door    = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    SSL_CTX           *ctx     = SSL_CTX_new(TLS_server_method());
    if (argc != 5 || !ctx || SSL_CTX_use_certificate_chain_file(ctx, argv[1]) != 1 ||
        SSL_CTX_use_PrivateKey_file(ctx, argv[2], SSL_FILETYPE_PEM) != 1 ||
        bind(door, (struct sockaddr *) &address, size) != 0 || listen(door, 1) != 0 ||
        getsockname(door, (struct sockaddr *) &address, &size) != 0) {
        fprintf(stderr, "peer_rig: usage: peer_rig CERT KEY MODEL_ID WHAT\n");
        return 2;
    }
    wrong = argv[4];
    SSL_CTX_set_alpn_select_cb(ctx, choose_alpn, NULL);
    printf("%u\n", ntohs(address.sin_port));
    fflush(stdout);
    const int fd  = accept(door, NULL, NULL);
    SSL      *ssl = SSL_new(ctx);
    SSL_set_fd(ssl, fd);
    if (SSL_accept(ssl) == 1) {
        serve(ssl, argv[3]);
    }
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    close(fd);
    close(door);
    return 0;
}
