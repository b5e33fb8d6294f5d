/* LINK: transports/sftp_hosts.c transports/sftp_crypto.c transports/sftp_kex.c core/buf.c core/err.c */
/* LIBS: -lcrypto -lssh2 */
/* MODULE: transports/sftp_hosts.c transports/sftp_kex.c */
/* What is read before anybody is trusted: the first bytes of a server, and known_hosts. The first byte chooses which,
 * the second a port and a host; of known_hosts, each key that was taken must be known as what it is. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/buf.h"
#include "transports/sftp_hosts.h"
#include "transports/sftp_kex.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
	if (!holds)
		abort();
}

static void offer(const char *p, size_t n)
{
	static const char *const names[] = { "curve25519-sha256", "ssh-ed25519", "aes128-ctr", "none" };
	struct sftp_kex_offer o;

	if (!sftp_kex_read(p, n, &o))
		return;
	for (int i = 0; i < SFTP_KEX_LISTS; i++) {
		require(sftp_kex_list_name((enum sftp_kex_list)i)[0] != '\0');
		for (const char *c = o.lists[i]; *c != '\0'; c++)
			require(*c > ' ' && *c < 127);
		(void)sftp_kex_common(o.lists[i], names, sizeof(names) / sizeof(names[0]));
	}
	sftp_kex_done(&o);
}

static void hosts(unsigned who, const char *p, size_t n)
{
	static const char *const names[] = { "nas", "box.example.org", "192.0.2.7", "Nas" };
	struct sftp_hosts h = { 0 };
	struct buf name;
	char type[64];

	buf_init(&name, 1024);
	require(sftp_hosts_name(&name, names[who % 4], who % 8 < 4 ? 22 : 2222));
	require(sftp_hosts_add(&h, p, n, names[who % 4], who % 8 < 4 ? 22 : 2222));
	for (size_t i = 0; i < h.n; i++) {
		const struct sftp_host_key *k = &h.keys[i];
		enum sftp_host_verdict v = sftp_hosts_check(&h, k->blob, k->blob_len);

		require(k->type[0] != '\0' && (v == SFTP_HOST_REVOKED || v == SFTP_HOST_KNOWN));
		require(!k->revoked || v == SFTP_HOST_REVOKED);
		(void)sftp_hosts_type(k->blob, k->blob_len, type, sizeof(type));
	}
	if (sftp_hosts_type(p, n, type, sizeof(type)))
		require(strlen(type) < sizeof(type));
	(void)sftp_hosts_check(&h, p, n);
	sftp_hosts_done(&h);
	buf_done(&name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	if (data[0] % 2 == 0)
		offer((const char *)data + 2, size - 2);
	else
		hosts(data[1], (const char *)data + 2, size - 2);
	return 0;
}
