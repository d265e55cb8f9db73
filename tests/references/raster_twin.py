"""A z-buffer as one would first write it: every triangle, every pixel, one at a time."""

import numpy as np


def rasterize(points, faces, size):
    """Faces (N, N) and corner weights (N, N, 3) of one picture; see `data.drawn.rasterize`."""
    seen, nearest = np.full((size, size), -1), np.full((size, size), np.inf)
    weights = np.zeros((size, size, 3))
    for number, face in enumerate(faces):
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = points[face]
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if area >= 0 or min(az, bz, cz) <= 0.05:
            continue
        for row in range(size):
            for column in range(size):
                x, y = column + 0.5, row + 0.5
                share = np.array(
                    [
                        (bx - x) * (cy - y) - (cx - x) * (by - y),
                        (cx - x) * (ay - y) - (ax - x) * (cy - y),
                        (ax - x) * (by - y) - (bx - x) * (ay - y),
                    ]
                )
                share = share / area
                if share.min() < 0:
                    continue
                share = share / np.array([az, bz, cz])
                depth = 1 / share.sum()
                if depth < nearest[row, column]:
                    nearest[row, column], seen[row, column] = depth, number
                    weights[row, column] = share * depth
    return seen, weights
