"""What ARN is trained on: relation + beta * self-supervision + gamma * alignment (Section 3)."""

from mindspore import nn, ops


def relation_loss(scores, way):
    """Mean square of scores (Q, way) against 1 for a query's own class and 0 elsewhere.

    There are Q / way queries of each class, sorted by class.
    """
    queries = scores.shape[0] // way
    target = ops.repeat_interleave(ops.eye(way, way, scores.dtype), queries, 0)  # (Q, way)
    return ops.square(scores - target).mean()


def alignment_loss(attention, attention_of_augmented, index, margin):
    """Attention should move with its clip: mean of (|aug(attention) - attention_of_augmented| - margin)^2.

    attention, attention_of_augmented: (B, 1, T, 1, 1) or (B, 1, 1, H, W) of the clips and of the augmented
    clips; index (B, positions): where each position of an augmented map comes from; margin: the paper's
    lambda.
    """
    flat = attention.reshape(index.shape)  # (B, T) or (B, H * W)
    moved = ops.gather_elements(flat, 1, index)
    return ops.square(ops.abs(moved - attention_of_augmented.reshape(index.shape)) - margin).mean()


class ARNLoss(nn.Cell):
    """The loss of one episode, with the network inside.

    Inputs: clips (way * (shot + query), 3, T, H, W), support first, each part sorted by class; with a `head`
    also augmented (same shape), label (B,) int32 of the augmentation, and its indices on the grid of the
    features: time (B, T') and space (B, H' * W') int32. Clips and augmented clips share the batch statistics.

    Args:
        network: ARN. head: SelfSupervisionHead, or None for the relation loss alone.
        beta, gamma, margin: weights of self-supervision and alignment, and the paper's lambda.
    """

    def __init__(self, network, head=None, beta=0.0, gamma=0.0, margin=0.0):
        super().__init__(auto_prefix=False)  # the network's parameters keep their names
        if head is not None:
            head.update_parameters_name("head.")
        self.network, self.head = network, head
        self.beta, self.gamma, self.margin = beta, gamma, margin

    def construct(self, clips, augmented=None, label=None, time=None, space=None):
        network, supports = self.network, self.network.way * self.network.shot
        if self.head is None:
            descriptors = network.descriptor(clips)
            return relation_loss(network.relate(descriptors[:supports], descriptors[supports:]), network.way)
        batch = clips.shape[0]
        features = network.descriptor.encoder(ops.concat((clips, augmented)))
        temporal, spatial = network.descriptor.attend(features)
        descriptors = network.descriptor.pool(
            features[:batch],
            [attention[:batch] for attention in temporal],
            [attention[:batch] for attention in spatial],
        )
        scores = network.relate(descriptors[:supports], descriptors[supports:])
        loss = relation_loss(scores, network.way)
        loss += self.beta * ops.cross_entropy(self.head(features[batch:]), label)
        if self.gamma > 0:
            for attention in temporal:
                loss += self.gamma * alignment_loss(attention[:batch], attention[batch:], time, self.margin)
            for attention in spatial:
                loss += self.gamma * alignment_loss(attention[:batch], attention[batch:], space, self.margin)
        return loss
