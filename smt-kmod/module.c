// SPDX-License-Identifier: GPL-2.0-or-later
/* Loading, unloading, network namespaces. */
#include <linux/module.h>
#include <net/net_namespace.h>
#include <net/netns/generic.h>
#include <net/protocol.h>
#include "smt.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

unsigned int smt_net_id;
struct kmem_cache *smt_call_cache;
struct workqueue_struct *smt_workqueue;

struct smt_net *smt_net(struct net *net)
{
	return net_generic(net, smt_net_id);
}

static int __net_init smt_net_init(struct net *net)
{
	struct smt_net *snet = smt_net(net);
	int err;

	snet->net = net;
	spin_lock_init(&snet->port_lock);
	spin_lock_init(&snet->peer_lock);
	spin_lock_init(&snet->grant_lock);
	INIT_LIST_HEAD(&snet->sockets);
	INIT_LIST_HEAD(&snet->grantable);
	INIT_DELAYED_WORK(&snet->timer, smt_timer_work);
	snet->next_port = SMT_MAX_SERVER_PORT + 1;
	err = smt_stats_init(snet);
	if (err)
		return err;
	err = smt_sysctl_init(snet);
	if (err)
		smt_stats_exit(snet);
	return err;
}

static void __net_exit smt_net_exit(struct net *net)
{
	struct smt_net *snet = smt_net(net);

	/* sockets hold the namespace, so there are none, nor calls */
	cancel_delayed_work_sync(&snet->timer);
	smt_sysctl_exit(snet);
	smt_peers_free(snet);
	smt_stats_exit(snet);
}

static struct pernet_operations smt_net_ops = {
	.init = smt_net_init,
	.exit = smt_net_exit,
	.id = &smt_net_id,
	.size = sizeof(struct smt_net),
};

static const struct net_protocol smt_protocol = {
	.handler = smt_rcv,
	.err_handler = smt_err,
	.no_policy = 1,
};

static struct inet_protosw smt_protosw = {
	.type = SOCK_DGRAM,
	.protocol = IPPROTO_SMT,
	.prot = &smt_proto,
	.ops = &smt_ops,
	.flags = 0,
};

static int __init smt_init(void)
{
	int err = -ENOMEM;

	smt_call_cache = KMEM_CACHE(smt_call, SLAB_ACCOUNT);
	if (!smt_call_cache)
		return err;
	smt_workqueue = alloc_workqueue("smt", WQ_HIGHPRI, 0);
	if (!smt_workqueue)
		goto no_workqueue;
	err = register_pernet_subsys(&smt_net_ops);
	if (err)
		goto no_net;
	err = proto_register(&smt_proto, 1);
	if (err)
		goto no_proto;
	err = inet_add_offload(&smt_offload, IPPROTO_SMT);
	if (err)
		goto no_offload;
	err = inet_add_protocol(&smt_protocol, IPPROTO_SMT);
	if (err)
		goto no_protocol;
	err = smt_hw_init();
	if (err)
		goto no_devices;
	inet_register_protosw(&smt_protosw);
	return 0;

no_devices:
	inet_del_protocol(&smt_protocol, IPPROTO_SMT);
no_protocol:
	inet_del_offload(&smt_offload, IPPROTO_SMT);
no_offload:
	proto_unregister(&smt_proto);
no_proto:
	unregister_pernet_subsys(&smt_net_ops);
no_net:
	destroy_workqueue(smt_workqueue);
no_workqueue:
	kmem_cache_destroy(smt_call_cache);
	return err;
}

static void __exit smt_exit(void)
{
	/* sockets hold the module, so there are none; packets may still come in and be refused */
	inet_unregister_protosw(&smt_protosw);
	inet_del_protocol(&smt_protocol, IPPROTO_SMT);
	inet_del_offload(&smt_offload, IPPROTO_SMT);
	/* no socket, so no key in a device */
	smt_hw_exit();
	rcu_barrier();
	proto_unregister(&smt_proto);
	unregister_pernet_subsys(&smt_net_ops);
	destroy_workqueue(smt_workqueue);
	/* says so in the log if a call was leaked */
	kmem_cache_destroy(smt_call_cache);
}

module_init(smt_init);
module_exit(smt_exit);

MODULE_DESCRIPTION("SMT: secure message transport");
MODULE_LICENSE("GPL");
MODULE_ALIAS_NET_PF_PROTO_TYPE(PF_INET, 253 /* IPPROTO_SMT */, 2 /* SOCK_DGRAM */);
