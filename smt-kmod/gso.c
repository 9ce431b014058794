// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Segmentation: by the device if it is known to do it right, else here.
 *
 * A device's TSO repeats the header, which looks like TCP's, and counts up the IP identification.
 * Others would also count up the sequence number, insert a checksum, or refuse the protocol.
 */
#include <linux/netdevice.h>
#include <linux/tcp.h>
#include <net/protocol.h>
#include "smt.h"

static const char * const drivers[] = { "mlx5_core" };

/*
 * No device claims both of the last two, which say things that do not matter here; so the stack
 * segments the skb just before the device, with our gso_segment.
 */
#define BY_SOFTWARE	(SKB_GSO_TCPV4 | SKB_GSO_DODGY | SKB_GSO_SCTP)
#define BY_DEVICE	SKB_GSO_TCPV4

/**
 * smt_gso_type() - gso_type for skbs that go out by @dev
 * @snet: namespace, for net.smt.tso
 * @dev: device of the route; what is stacked on another device is segmented by software
 */
int smt_gso_type(struct smt_net *snet, const struct net_device *dev)
{
	const struct device *parent = dev->dev.parent;
	int tso = READ_ONCE(snet->limits.tso);
	unsigned int i;

	if (tso == 2)
		return BY_DEVICE;
	if (!tso || !parent || !parent->driver)
		return BY_SOFTWARE;
	for (i = 0; i < ARRAY_SIZE(drivers); i++) {
		if (!strcmp(parent->driver->name, drivers[i]))
			return BY_DEVICE;
	}
	return BY_SOFTWARE;
}

/* What the device would do; inet_gso_segment() then counts up the identification. */
static struct sk_buff *gso_segment(struct sk_buff *skb, netdev_features_t features)
{
	struct sk_buff *segments, *segment;
	unsigned int length;

	if (!pskb_may_pull(skb, sizeof(struct smt_common)))
		return ERR_PTR(-EINVAL);
	length = tcp_hdrlen(skb);
	if (length != SMT_HEADER || !pskb_may_pull(skb, length))
		return ERR_PTR(-EINVAL);
	__skb_pull(skb, length);
	/* or it would compute checksums, for nobody */
	segments = skb_segment(skb, features | NETIF_F_HW_CSUM);
	if (IS_ERR_OR_NULL(segments))
		return segments;
	for (segment = segments; segment; segment = segment->next)
		segment->ip_summed = CHECKSUM_NONE;
	return segments;
}

const struct net_offload smt_offload = {
	.callbacks = { .gso_segment = gso_segment },
};
